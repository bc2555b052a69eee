"""Greedy non-maximum suppression, OpenCV's. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from naiad.vision.detections import Detections

MAX_CANDIDATES = 5000
"""Candidates looked at, the best first: suppression is quadratic in the worst case (5000: some 70 ms)."""


def best_indices(detections: Detections, iou: float) -> npt.NDArray[np.int64]:
    """Indices of the faces that no better one overlaps by more than `iou`, the best first.

    Args:
        detections: candidates in any order; scores above 0, finite numbers only.
        iou: intersection over union, 0..1.
    """
    if not len(detections):
        return np.empty(0, np.int64)
    boxes = detections.boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]  # OpenCV wants x, y, width, height
    suppress: Any = cv2.dnn.NMSBoxes  # takes arrays, though its stub says sequences
    kept = suppress(boxes, detections.scores, 0.0, iou, 1.0, MAX_CANDIDATES)
    return np.asarray(kept, np.int64).reshape(-1)
