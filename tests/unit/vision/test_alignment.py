"""Alignment: the transform is Umeyama's, the crop is upright, and impossible landmarks are refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from skimage.transform import SimilarityTransform

from naiad.core.errors import InvalidArgumentError
from naiad.vision.alignment import ARCFACE, align, l2_normalize, similarity_transform
from naiad.vision.images import ImageLimits, decode_image

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.vision.arrays import Pixels

TEMPLATE: npt.NDArray[np.float64] = np.array(ARCFACE)


def turned(angle: float, scale: float, shift: tuple[float, float]) -> npt.NDArray[np.float64]:
    """The template turned, scaled and shifted: landmarks whose alignment is known."""
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.asarray(TEMPLATE @ np.array([[c, -s], [s, c]]).T + shift, np.float64)


@pytest.mark.parametrize("angle", [0.0, 0.4, np.pi / 2, np.pi, -2.5])
@pytest.mark.parametrize("scale", [0.1, 1.0, 7.0])
def test_a_turned_template_is_brought_back_exactly(angle: float, scale: float) -> None:
    landmarks = turned(angle, scale, (300, -40))
    matrix = similarity_transform(landmarks)
    np.testing.assert_allclose(np.column_stack([landmarks, np.ones(5)]) @ matrix.T, TEMPLATE, atol=1e-6)


def test_random_landmarks_give_what_skimage_gives() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        landmarks = rng.uniform(-200, 2000, (5, 2))
        reference = SimilarityTransform.from_estimate(landmarks, TEMPLATE)
        np.testing.assert_allclose(
            similarity_transform(landmarks), reference.params[:2], rtol=1e-6, atol=1e-7
        )


def test_mirrored_landmarks_are_turned_but_never_mirrored() -> None:
    matrix = similarity_transform(TEMPLATE * [-1, 1])
    assert np.linalg.det(matrix[:, :2]) > 0


def test_another_crop_size_scales_the_template() -> None:
    landmarks = turned(0.3, 2, (10, 20))
    np.testing.assert_allclose(similarity_transform(landmarks, 224), similarity_transform(landmarks) * 2)


@pytest.mark.parametrize(
    ("landmarks", "words"),
    [
        (np.full((5, 2), 50.0), "all lie in one place"),
        (np.where(TEMPLATE > 92.3, np.nan, TEMPLATE), "not all finite"),
        (np.where(TEMPLATE > 92.3, np.inf, TEMPLATE), "not all finite"),
        (TEMPLATE * 1e7, "away from the picture"),
        (np.zeros((4, 2)), r"shape \[4, 2\], alignment needs exactly 5 points"),
        (np.zeros((6, 2)), r"shape \[6, 2\], alignment needs exactly 5 points"),
        (np.zeros(10), r"shape \[10\]"),
    ],
)
def test_landmarks_that_are_no_face_are_refused(landmarks: npt.NDArray[np.float64], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        similarity_transform(landmarks)


def test_landmarks_on_one_line_still_align() -> None:
    line = np.linspace([0, 0], [10, 10], 5)
    assert np.isfinite(similarity_transform(line)).all()


def test_an_aligned_crop_is_a_window_of_the_picture(photo: Pixels) -> None:
    """Landmarks at the template, shifted by whole pixels, cut out those very pixels; outside it is black."""
    crop = align(photo, np.add(TEMPLATE, (20, 10)))
    assert crop.shape == (112, 112, 3)
    np.testing.assert_array_equal(crop[:50, :70], photo[10:, 20:])
    assert not crop[50:].any()
    assert not crop[:, 70:].any()


def test_faces_outside_the_picture_and_very_long_pictures_do_not_fail(photo: Pixels) -> None:
    assert not align(photo, TEMPLATE + 5000).any()
    assert align(np.full((4, 70_000, 3), 9, np.uint8), np.add(TEMPLATE, (60_000, -50))).shape == (112, 112, 3)


def test_vectors_become_unit_length_and_zero_stays_zero() -> None:
    vectors = np.array([[3, 4], [0, 0], [1e-15, 0]], np.float32)
    unit = l2_normalize(vectors)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, np.array([[0.6, 0.8], [0, 0], [1, 0]]), rtol=1e-6)


@pytest.mark.assets
def test_golden_matrices_and_crops_are_reproduced(assets: Path, limits: ImageLimits) -> None:
    golden = json.loads((assets / "golden" / "mobilefacenet_128.json").read_text())
    compared = 0
    for crop in golden["crops"]:
        matrix = similarity_transform(crop["landmarks"])
        np.testing.assert_allclose(matrix, crop["similarity_2x3"], rtol=1e-4, atol=2e-3)
        path = assets / "images" / crop["photo"]
        if path.is_file():
            image = decode_image(path.read_bytes(), limits)
            expected = cv2.imread(str(assets / crop["file"]))
            difference = np.abs(align(image, crop["landmarks"]).astype(int) - expected)
            assert difference.mean() < 0.1, crop["file"]
            compared += 1
    assert compared >= 10
