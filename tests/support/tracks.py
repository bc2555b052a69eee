"""Made-up faces that move, and real ones of a clip, for tests of tracks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from naiad.vision.detections import Detections

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from naiad.vision.tracks import Tracker


def faces(*places: Sequence[float], score: float = 0.9, labels: Sequence[int] | None = None) -> Detections:
    """Faces at (centre x, centre y), of side 40 unless a third number says otherwise, with frontal landmarks."""
    centres = np.array([place[:2] for place in places], np.float32).reshape(-1, 2)
    sides = np.array([[place[2] if len(place) > 2 else 40.0] for place in places], np.float32).reshape(-1, 1)
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    frontal = np.array([(-18, -22), (18, -22), (0, 0), (-15, 20), (15, 20)], np.float32) / 112
    landmarks = (centres[:, np.newaxis] + frontal * sides[:, np.newaxis]).astype(np.float32)
    scores = np.full(len(places), score, np.float32)
    return Detections(boxes, scores, landmarks, None if labels is None else np.array(labels, np.int32))


def follow(tracker: Tracker, frames: Iterable[Detections]) -> list[list[int]]:
    """The track of each face of each frame."""
    return [tracker.update(frame).tolist() for frame in frames]


def line(start: Sequence[float], step: Sequence[float], count: int) -> list[tuple[float, float]]:
    """The places of something that moves evenly."""
    return [(start[0] + step[0] * index, start[1] + step[1] * index) for index in range(count)]
