"""Suppression: the better of two overlapping faces stays, the best comes first."""

from __future__ import annotations

import numpy as np

from naiad.vision.detections import Detections
from naiad.vision.nms import best_indices

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
