"""Suppression: of overlapping faces the best stays, or their mean; the best comes first; classes stay apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from naiad.vision.detections import Detections
from naiad.vision.nms import best_indices, blended

BOXES = np.array([[0, 0, 10, 10], [100, 0, 110, 10], [0, 0, 10, 8], [0, 5, 10, 15]], np.float32)
SCORES = np.array([0.8, 0.7, 0.9, 0.6], np.float32)


def test_of_overlapping_boxes_the_best_stays_and_comes_first() -> None:
    # Box 0 overlaps box 2 by 0.8; box 3 overlaps box 2 by 30 of 150.
    assert best_indices(Detections(BOXES, SCORES), 0.45).tolist() == [2, 1, 3]


def test_overlap_up_to_the_limit_is_kept() -> None:
    assert best_indices(Detections(BOXES, SCORES), 0.81).tolist() == [2, 0, 1, 3]
    assert best_indices(Detections(BOXES, SCORES), 0.1).tolist() == [2, 1]


def test_nothing_in_gives_nothing_out() -> None:
    empty = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32))
    assert best_indices(empty, 0.5).shape == (0,)


def test_taking_faces_takes_their_landmarks_along() -> None:
    landmarks = np.arange(40, dtype=np.float32).reshape(4, 5, 2)
    taken = Detections(BOXES, SCORES, landmarks).take(np.array([2, 0]))
    assert len(taken) == 2
    np.testing.assert_array_equal(taken.boxes, BOXES[[2, 0]])
    assert taken.landmarks is not None
    np.testing.assert_array_equal(taken.landmarks, landmarks[[2, 0]])


def reference_blend(
    boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], iou: float
) -> list[tuple[float, list[float]]]:
    """The paper's words, one pair of boxes at a time: (score, box) of each face, the best first."""

    def overlap(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> float:
        width = min(left[2], right[2]) - max(left[0], right[0])
        height = min(left[3], right[3]) - max(left[1], right[1])
        common = max(float(width), 0.0) * max(float(height), 0.0)
        areas = [float((box[2] - box[0]) * (box[3] - box[1])) for box in (left, right)]
        return common / (sum(areas) - common)

    waiting = sorted(range(len(scores)), key=lambda index: -float(scores[index]))
    faces = []
    while waiting:
        group = [index for index in waiting if overlap(boxes[waiting[0]], boxes[index]) > iou]
        waiting = [index for index in waiting if index not in group]
        total = sum(float(scores[index]) for index in group)
        box = [sum(float(scores[i]) * float(boxes[i, side]) for i in group) / total for side in range(4)]
        faces.append((total / len(group), box))
    return sorted(faces, key=lambda face: -face[0])


def test_faces_of_different_classes_do_not_suppress_each_other() -> None:
    """The boxes reach left of the picture, where shifting classes apart by their extent would mix them."""
    boxes = np.array([[-50, 0, 10, 10], [0, 0, 61, 10], [-50, 0, 10, 9], [-49, 0, 10, 10]], np.float32)
    labels = np.array([0, 1, 1, 0], np.int32)
    assert best_indices(Detections(boxes, SCORES, None, labels), 0.3).tolist() == [2, 0, 1]
    assert best_indices(Detections(boxes, SCORES, None, labels * 0), 0.3).tolist() == [2, 1]


def test_classes_that_tie_keep_the_order_in_which_they_came() -> None:
    labels = np.array([3, 1, 2, 1], np.int32)
    found = Detections(BOXES, np.full(4, 0.5, np.float32), None, labels)
    assert best_indices(found, 1.0).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("iou", [0.0, 0.3, 0.7])
def test_blending_is_the_weighted_mean_that_the_paper_describes(iou: float) -> None:
    rng = np.random.default_rng(5)
    corners = rng.uniform(0, 60, (80, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(10, 40, (80, 2))], axis=1).astype(np.float32)
    scores = rng.uniform(0.3, 1, 80).astype(np.float32)
    found = blended(Detections(boxes, scores), iou)
    expected = reference_blend(boxes, scores, iou)
    assert 1 <= len(expected) < 80
    np.testing.assert_allclose(found.scores, [score for score, _ in expected], rtol=1e-5)
    np.testing.assert_allclose(found.boxes, [box for _, box in expected], rtol=1e-5, atol=1e-4)
    assert found.boxes.dtype == found.scores.dtype == np.float32


def test_blending_moves_landmarks_by_the_same_weights_and_keeps_classes_apart() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10]], np.float32)
    scores = np.array([0.9, 0.3, 0.8], np.float32)
    landmarks = np.array([[[0, 0]] * 6, [[4, 8]] * 6, [[1, 1]] * 6], np.float32)
    found = blended(Detections(boxes, scores, landmarks, np.array([0, 0, 1], np.int32)), 0.5)
    np.testing.assert_allclose(found.scores, [0.8, 0.6], rtol=1e-6)
    assert found.landmarks is not None
    np.testing.assert_allclose(found.landmarks, [[[1, 1]] * 6, [[1, 2]] * 6], rtol=1e-6)
    np.testing.assert_allclose(found.boxes[1], [0, 0, 10, 9.75])
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0]


def test_blending_takes_boxes_without_area_each_for_itself_and_leaves_out_scores_of_nothing() -> None:
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 5], [0, 0, 9, 9]], np.float32)
    found = blended(Detections(boxes, np.array([0.5, 0.4, 0.0], np.float32)), 0.0)
    np.testing.assert_allclose(found.scores, [0.5, 0.4])
    assert len(blended(found.take(slice(0, 0)), 0.5)) == 0


def test_faces_that_are_no_finite_numbers_are_told_apart() -> None:
    boxes, scores = BOXES.copy(), SCORES.copy()
    landmarks = np.zeros((4, 6, 2), np.float32)
    boxes[0, 1], scores[1], landmarks[2, 5, 0] = np.nan, np.inf, -np.inf
    found = Detections(boxes, scores, landmarks, np.arange(4, dtype=np.int32)).finite()
    assert found.labels is not None
    assert found.labels.tolist() == [3]
    assert len(found.take(slice(0, 0)).finite()) == 0
