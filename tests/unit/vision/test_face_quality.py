"""The quality of a face: what raises it, what lowers it, what it ignores."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tracks import faces

from naiad.vision.alignment import ARCFACE
from naiad.vision.detections import Detections
from naiad.vision.face_quality import face_quality

if TYPE_CHECKING:
    from naiad.vision.arrays import Floats


def with_landmarks(points: Floats, score: float = 1.0) -> Detections:
    return Detections(np.array([[0, 0, 112, 112]], np.float32), np.array([score], np.float32), points[None])


TEMPLATE = np.array(ARCFACE, np.float32)


def test_a_sure_frontal_face_as_large_as_the_crop_is_of_quality_1_and_a_larger_one_gains_nothing() -> None:
    assert face_quality(with_landmarks(TEMPLATE))[0] == pytest.approx(1)
    assert face_quality(with_landmarks(TEMPLATE * 5))[0] == pytest.approx(1)


def test_quality_falls_with_size_with_the_squared_score_and_not_with_place_and_angle() -> None:
    assert face_quality(with_landmarks(TEMPLATE * np.float32(0.25)))[0] == pytest.approx(0.25)
    assert face_quality(with_landmarks(TEMPLATE, 0.5))[0] == pytest.approx(0.25)
    turned = (TEMPLATE @ np.array([[0.6, 0.8], [-0.8, 0.6]], np.float32) + 500).astype(np.float32)
    assert face_quality(with_landmarks(turned))[0] == pytest.approx(1, abs=1e-4)


def test_the_more_a_face_is_turned_away_the_lower_its_quality() -> None:
    """Eyes and mouth corners move together, the nose to the side."""
    qualities = []
    for turn in (0.0, 0.3, 0.6, 0.9):
        points = TEMPLATE.copy()
        points[:, 0] = 56 + (points[:, 0] - 56) * (1 - turn)
        points[2, 0] += 20 * turn
        qualities.append(float(face_quality(with_landmarks(points * 4))[0]))
    assert qualities == sorted(qualities, reverse=True)
    assert qualities[-1] < 0.8


def test_without_five_landmarks_the_box_tells_the_size() -> None:
    half = faces((100, 100, 56), score=1.0)
    assert face_quality(replace(half, landmarks=None))[0] == pytest.approx(0.5)
    assert half.landmarks is not None
    six = np.concatenate([half.landmarks, half.landmarks[:, :1]], axis=1)
    assert face_quality(replace(half, landmarks=six))[0] == pytest.approx(0.5)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=10, max_size=10), st.floats(0, 1, width=32))
def test_whatever_the_landmarks_quality_is_between_0_and_1(numbers: list[float], score: float) -> None:
    (quality,) = face_quality(with_landmarks(np.array(numbers, np.float32).reshape(5, 2), score))
    assert 0 <= quality <= 1 + 1e-9
