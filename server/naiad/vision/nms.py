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
    best = _best_first(detections.scores)
    rest = detections.take(best[detections.scores[best] > 0])
    faces = []
    while len(rest):
        together = _overlaps_first(rest.boxes) > iou
        together[0] = True  # whatever `iou` says: a box without area overlaps not even itself
        if rest.labels is not None:
            together &= rest.labels == rest.labels[0]
        faces.append(_mean(rest.take(np.flatnonzero(together))))
        rest = rest.take(np.flatnonzero(~together))
    return _joined(faces) if faces else rest


def _greedy(boxes: npt.NDArray[np.float64], scores: Floats, iou: float) -> Indices:
    """OpenCV's suppression of boxes (x, y, width, height)."""
    suppress: Any = cv2.dnn.NMSBoxes  # takes arrays, though its stub says sequences
    kept = suppress(boxes, scores, 0.0, iou, 1.0, MAX_CANDIDATES)
    return np.asarray(kept, np.int64).reshape(-1)


def _best_first(scores: Floats) -> Indices:
    order: Indices = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    return order


def _overlaps_first(boxes: Floats) -> npt.NDArray[np.float64]:
    """Intersection over union of the first box with each, itself included; 0 where there is no area."""
    wide = boxes.astype(np.float64)
    first = wide[0]
    sides = np.minimum(wide[:, 2:], first[2:]) - np.maximum(wide[:, :2], first[:2])
    common = np.maximum(sides, 0).prod(axis=1)
    areas = (wide[:, 2:] - wide[:, :2]).prod(axis=1)
    union = areas + areas[0] - common
    overlaps: npt.NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return overlaps


def _mean(group: Detections) -> Detections:
    """One face of several candidates, its class that of the first."""
    if len(group) == 1:
        return group
    weights = group.scores / group.scores.sum(dtype=np.float64)
    landmarks = None
    if group.landmarks is not None:
        landmarks = np.tensordot(weights, group.landmarks, 1)[np.newaxis].astype(np.float32)
    return Detections(
        (weights @ group.boxes)[np.newaxis].astype(np.float32),
        group.scores.mean(keepdims=True),
        landmarks,
        None if group.labels is None else group.labels[:1],
    )


def _joined(faces: list[Detections]) -> Detections:
    """The faces of several in one, the best first."""
    landmarks = [face.landmarks for face in faces if face.landmarks is not None]
    labels = [face.labels for face in faces if face.labels is not None]
    joined = Detections(
        np.concatenate([face.boxes for face in faces]),
        np.concatenate([face.scores for face in faces]),
        np.concatenate(landmarks) if landmarks else None,
        np.concatenate(labels) if labels else None,
    )
    return joined.take(_best_first(joined.scores))
