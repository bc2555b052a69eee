"""Non-maximum suppression, within each class: OpenCV's greedy one, and BlazeFace's, which blends. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from naiad.vision.detections import Detections

if TYPE_CHECKING:
    import numpy.typing as npt

    from naiad.vision.arrays import Floats

    Indices = npt.NDArray[np.int64]

MAX_CANDIDATES = 5000
"""Candidates looked at, the best first: suppression is quadratic in the worst case (5000: some 70 ms)."""

MAX_BLENDED = 1000
"""The same for blending, which is done in Python (1000 that do not overlap: some 60 ms)."""


def best_indices(detections: Detections, iou: float) -> Indices:
    """Indices of the faces that no better one of their class overlaps by more than `iou`, the best first.

    Args:
        detections: candidates in any order; scores above 0, finite numbers only.
        iou: intersection over union, 0..1.
    """
    if not len(detections):
        return np.empty(0, np.int64)
    boxes = detections.boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]  # OpenCV wants x, y, width, height
    if detections.labels is None:
        return _greedy(boxes, detections.scores, iou)
    # One call a class: OpenCV's NMSBoxesBatched lets classes touch where boxes reach left of the picture.
    best = _best_first(detections.scores)
    labels = detections.labels[best]
    kept = []
    for label in np.unique(labels):
        members = best[labels == label]
        kept.append(members[_greedy(boxes[members], detections.scores[members], iou)])
    joined = np.sort(np.concatenate(kept))
    return joined[np.argsort(-detections.scores[joined], kind="stable")]


def blended(detections: Detections, iou: float) -> Detections:
    """Each face as the mean of the candidates that its best one overlaps by more than `iou`, the best first.

    The tie resolution of BlazeFace (Bazarevsky et al. 2019, section 4): boxes and landmarks are means
    weighted by score, so a face wavers less from frame to frame than the best candidate does. The paper
    leaves the score open; as in BlazeFace-PyTorch it is the plain mean of the scores.

    Args:
        detections: candidates in any order; scores above 0, finite numbers only.
        iou: intersection over union, 0..1.
    """
    best = _best_first(detections.scores)[:MAX_BLENDED]
    ordered = detections.take(best[detections.scores[best] > 0])
    if not len(ordered):
        return ordered
    groups = _groups(ordered, iou)
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    faces = _means(ordered.take(order), starts)
    return faces.take(_best_first(faces.scores))


def _greedy(boxes: npt.NDArray[np.float64], scores: Floats, iou: float) -> Indices:
    """OpenCV's suppression of boxes (x, y, width, height)."""
    suppress: Any = cv2.dnn.NMSBoxes  # takes arrays, though its stub says sequences
    kept = suppress(boxes, scores, 0.0, iou, 1.0, MAX_CANDIDATES)
    return np.asarray(kept, np.int64).reshape(-1)


def _best_first(scores: Floats) -> Indices:
    order: Indices = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    return order


def _groups(ordered: Detections, iou: float) -> Indices:
    """The number of the group that each candidate belongs to, groups counted from 0, the best first."""
    groups = np.empty(len(ordered), np.int64)
    rest = np.arange(len(ordered))
    corners = ordered.boxes.T.astype(np.float64)  # a row a side: what is left shrinks in one copy
    labels = np.zeros(len(ordered)) if ordered.labels is None else ordered.labels
    columns = np.vstack([corners, (corners[2:] - corners[:2]).prod(axis=0), labels])
    number = 0
    while len(rest):
        first = columns[:, :1]
        sides = np.minimum(columns[2:4], first[2:4]) - np.maximum(columns[:2], first[:2])
        common = np.maximum(sides, 0).prod(axis=0)
        together = (common > iou * (columns[4] + first[4] - common)) & (columns[5] == first[5])
        together[0] = True  # whatever `iou` says: a box without area overlaps not even itself
        groups[rest[together]] = number
        number += 1
        apart = ~together
        rest, columns = rest[apart], columns[:, apart]
    return groups


def _means(grouped: Detections, starts: npt.NDArray[np.intp]) -> Detections:
    """One face of each group of candidates that lie one after another; its class is that of the first."""
    weights = grouped.scores.astype(np.float64)
    totals = np.add.reduceat(weights, starts)

    def mean(values: Floats) -> Floats:
        flat = values.reshape(len(values), -1) * weights[:, np.newaxis]
        means = np.add.reduceat(flat, starts, axis=0) / totals[:, np.newaxis]
        return means.astype(np.float32).reshape(-1, *values.shape[1:])

    return Detections(
        mean(grouped.boxes),
        (totals / np.diff(starts, append=len(weights))).astype(np.float32),
        None if grouped.landmarks is None else mean(grouped.landmarks),
        None if grouped.labels is None else grouped.labels[starts],
    )
