"""Where faces will be: Kalman filters of constant velocity over box centre and size, all at once. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Numbers = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.int64]

_PLACE = 1 / 20
_SPEED = 1 / 80
"""Standard deviations of place and of speed a frame, in heights of the face. Deep SORT's and ByteTrack's, but
for the speed: theirs (1/160) is for whole people, and lost more faces of the clips that this was measured
on."""
_LEAST_SIDE = 1.0
"""Pixels; a box without area would be sure of its place beyond reason."""


class Motion:
    """The boxes of `m` tracks and how they move. Arrays are `[m, 4]`: centre x, centre y, width, height.

    Each number has a filter of its own, of place and speed: with noise that is alike on both axes, that is
    what the 8 x 8 filter of Deep SORT (Wojke et al. 2017) comes to, but for width, which is followed in
    place of the aspect ratio, as in BoT-SORT (Aharon et al. 2022). Frames that were skipped are predicted
    over in one step.
    """

    def __init__(self, state: Numbers, speed: Numbers, variance: Numbers) -> None:
        """Take places, speeds, and the variances of place, of speed, and of both together `[3, m, 4]`."""
        self._state, self._speed, self._variance = state, speed, variance

    @classmethod
    def of(cls, boxes: npt.NDArray[np.floating]) -> Motion:
        """Tracks that begin with `boxes` `[m, 4]` (x1, y1, x2, y2), at rest and unsure of it."""
        state = _state(boxes)
        height = _height(state)
        variance = np.stack([(2 * _PLACE * height) ** 2, (10 * _SPEED * height) ** 2, np.zeros_like(height)])
        return cls(state, np.zeros_like(state), variance)

    def __len__(self) -> int:
        return len(self._state)

    def take(self, index: Indices) -> Motion:
        """The tracks at `index`, in that order."""
        return Motion(self._state[index], self._speed[index], self._variance[:, index])

    def joined(self, other: Motion) -> Motion:
        """These tracks, then the other ones."""
        return Motion(
            np.concatenate([self._state, other._state]),
            np.concatenate([self._speed, other._speed]),
            np.concatenate([self._variance, other._variance], axis=1),
        )

    @property
    def boxes(self) -> Numbers:
        """float64 `[m, 4]` (x1, y1, x2, y2) where the tracks are now."""
        half = np.maximum(self._state[:, 2:], _LEAST_SIDE) / 2
        return np.concatenate([self._state[:, :2] - half, self._state[:, :2] + half], axis=1)

    @property
    def doubt(self) -> Numbers:
        """Standard deviation of where a face will be found, `[m]`, in its heights."""
        height = _height(self._state)[:, 0]
        result: Numbers = np.sqrt(self._variance[0, :, 0] / height**2 + _PLACE**2)
        return result

    def reach(self, spreads: float, heights: float) -> Numbers:
        """How far from its place, along x and y, a face may be found, `[m, 2]` in pixels.

        Args:
            spreads: in standard deviations.
            heights: in heights of the face; the lesser of both counts.
        """
        height = _height(self._state)[:, :2]
        spread = np.sqrt(self._variance[0, :, :2] + (_PLACE * height) ** 2)
        result: Numbers = np.minimum(spreads * spread, heights * height)
        return result

    def predict(self, frames: int) -> None:
        """Let that many frames pass."""
        place, speed, both = self._variance
        height = _height(self._state)
        self._state = self._state + self._speed * frames
        self._variance = np.stack(
            [
                place + 2 * frames * both + frames**2 * speed + frames * (_PLACE * height) ** 2,
                speed + frames * (_SPEED * height) ** 2,
                both + frames * speed,
            ]
        )

    def correct(self, index: Indices, boxes: npt.NDArray[np.floating]) -> None:
        """Learn where the tracks at `index` were seen: `boxes` `[k, 4]` (x1, y1, x2, y2)."""
        seen = _state(boxes)
        place, speed, both = self._variance[:, index]
        total = place + (_PLACE * _height(self._state[index])) ** 2
        gain, speed_gain = place / total, both / total
        error = seen - self._state[index]
        self._state[index] += gain * error
        self._speed[index] += speed_gain * error
        self._variance[:, index] = [(1 - gain) * place, speed - speed_gain * both, (1 - gain) * both]


def _state(boxes: npt.NDArray[np.floating]) -> Numbers:
    corners = boxes.astype(np.float64)
    low, high = corners[:, :2], corners[:, 2:]
    return np.concatenate([(low + high) / 2, np.maximum(high - low, _LEAST_SIDE)], axis=1)


def _height(state: Numbers) -> Numbers:
    """What noise is measured by, `[m, 4]`: the height, as in Deep SORT."""
    return np.repeat(np.maximum(state[:, 3:], _LEAST_SIDE), 4, axis=1)
