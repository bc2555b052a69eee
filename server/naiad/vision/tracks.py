"""Tracks: the same number for the same face from frame to frame, by motion and overlap. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from naiad.core.errors import InvalidArgumentError
from naiad.vision.assignment import assign
from naiad.vision.motion import Motion

if TYPE_CHECKING:
    import numpy.typing as npt

    from naiad.vision.detections import Detections

    Ids = npt.NDArray[np.int64]

MAX_MISSED = 30
"""Frames in which a face may be missing, unless a tracker is told otherwise: a second of video."""
MAX_TRACKS = 1000
"""Live tracks, unless a tracker is told otherwise: as many as a detector gives faces by default."""
MAX_ID = 2**62
"""No first number above this: int64 holds as many more as any stream could use up."""


class Tracker:
    """Numbers the faces of one stream. Not for several threads at once.

    Each frame goes three steps: every live track is predicted at the frame's time by a Kalman filter of
    constant velocity (`motion`); predictions and faces are paired at least cost (`assignment`); a face
    without a track begins one. A track ends when its face has been missing for more than `max_missed`
    frames, or when there are more than `max_tracks`: those missing for longest end first. Its number is
    never given again.

    Pictures are not looked at: a face that comes back after its track ended has a new number, and a face that
    stands where another one stood before a cut may inherit that one's.

    This is SORT (Bewley et al. 2016) with another filter and another cost. The two stages of ByteTrack
    (Zhang et al. 2022), faces of low score last, were tried: they kept no more tracks together, at a
    threshold of 0.3.

    An update costs 0.5 ms with 10 faces, 1 ms with 100 and 25 ms with 1,000 that are spread over the picture;
    a heap of 1,000 faces in one place, which no suppression leaves, takes a second.
    """

    def __init__(
        self,
        *,
        first_id: int = 1,
        max_missed: int = MAX_MISSED,
        max_tracks: int = MAX_TRACKS,
    ) -> None:
        """Create a tracker without tracks.

        Args:
            first_id: the first track's number.
            max_missed: frames in a row in which a face may be missing before its track ends.
            max_tracks: at most this many are kept.

        Raises:
            InvalidArgumentError: a number is out of range.
        """
        _check("first_track_id", first_id, 1, MAX_ID)
        _check("max_missed", max_missed, 0, MAX_ID)
        _check("max_tracks", max_tracks, 1, MAX_ID)
        self._next_id = first_id
        self._max_missed, self._max_tracks = max_missed, max_tracks
        self._frame: int | None = None
        self._ids: Ids = np.empty(0, np.int64)
        self._labels: Ids = np.empty(0, np.int64)
        self._seen: Ids = np.empty(0, np.int64)
        self._motion = Motion.of(np.empty((0, 4)))

    @property
    def next_id(self) -> int:
        """The number that the next track will have: the `first_id` of a stream that goes on for this one."""
        return self._next_id

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> Ids:
        """The live tracks, int64 `[m]`, ascending."""
        return np.sort(self._ids)

    def update(self, detections: Detections, *, frame: int | None = None) -> Ids:
        """Take the faces of the next frame.

        Args:
            detections: the faces, in any order; finite numbers only.
            frame: the frame's place in the stream, dropped frames counted: tracks are predicted over the gap.
                Without it, the frame is the one after the last.

        Returns:
            int64 `[n]`, the track of each face: no two alike.

        Raises:
            InvalidArgumentError: `frame` is not after the last one.
        """
        frame = self._advance(frame)
        faces, tracks = self._match(detections)
        self._motion.correct(tracks, detections.boxes[faces])
        self._seen[tracks] = frame
        ids = np.zeros(len(detections), np.int64)
        ids[faces] = self._ids[tracks]
        fresh = np.flatnonzero(ids == 0)
        ids[fresh] = self._begin(detections, fresh)
        self._end()
        return ids

    def _advance(self, frame: int | None) -> int:
        """Go to that frame: end what has been missing for too long, predict the others."""
        last = self._frame
        if last is None:
            frame = 0 if frame is None else frame
        else:
            frame = last + 1 if frame is None else frame
            if frame <= last:
                raise InvalidArgumentError(f"frame {frame} came after frame {last}: tracks need their order")
            # What is missing until the frame before this one; a gap may have ended tracks that were alive.
            self._keep(np.flatnonzero(frame - 1 - self._seen <= self._max_missed))
            self._motion.predict(frame - last)
        self._frame = frame
        return frame

    def _match(self, detections: Detections) -> tuple[Ids, Ids]:
        """Faces and the tracks that they belong to, as indices of both; classes do not mix.

        Tracks that were seen in the last frame choose first (Wojke et al. 2017, section 2.3): a track that
        drifts unseen across a face that is being followed must not take it.
        """
        labels = _labels(detections)
        faces, tracks = np.empty(0, np.int64), np.empty(0, np.int64)
        steady = self._seen == self._seen.max(initial=0)
        for stage in (steady, ~steady):
            free = np.setdiff1d(np.arange(len(labels)), faces)
            for label in np.intersect1d(labels[free], self._labels[stage]):
                own = free[labels[free] == label]
                theirs = np.flatnonzero(stage & (self._labels == label))
                face, track = assign(detections.boxes[own], self._motion.take(theirs))
                faces, tracks = np.append(faces, own[face]), np.append(tracks, theirs[track])
        return faces, tracks

    def _begin(self, detections: Detections, fresh: Ids) -> Ids:
        ids = np.arange(self._next_id, self._next_id + len(fresh), dtype=np.int64)
        self._next_id += len(fresh)
        self._ids = np.append(self._ids, ids)
        self._labels = np.append(self._labels, _labels(detections)[fresh])
        self._seen = np.append(self._seen, np.full(len(fresh), self._frame, np.int64))
        self._motion = self._motion.joined(Motion.of(detections.boxes[fresh]))
        return ids

    def _end(self) -> None:
        """End what has been missing for too long, then what is too many."""
        assert self._frame is not None
        self._keep(np.flatnonzero(self._frame - self._seen <= self._max_missed))
        newest = np.argsort(-self._seen, kind="stable")[: self._max_tracks]
        self._keep(np.sort(newest))

    def _keep(self, index: Ids) -> None:
        if len(index) == len(self._ids):
            return
        self._ids, self._labels, self._seen = self._ids[index], self._labels[index], self._seen[index]
        self._motion = self._motion.take(index)


def _labels(detections: Detections) -> Ids:
    if detections.labels is None:
        return np.zeros(len(detections), np.int64)
    return detections.labels.astype(np.int64)


def _check(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InvalidArgumentError(f"{name} is {value}, it must be from {least} to {most}")
