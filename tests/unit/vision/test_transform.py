"""From the model's pixels back to the picture's."""

from __future__ import annotations

import numpy as np

from naiad.vision.transform import Transform

TRANSFORM = Transform(
    scale_x=0.5,
    scale_y=0.25,
    offset_x=10.0,
    offset_y=20.0,
    image_width=100,
    image_height=80,
    input_width=64,
    input_height=64,
)


def test_boxes_are_mapped_by_the_inverse_of_scale_and_offset() -> None:
    boxes = np.array([[10, 20, 60, 40], [35, 25, 5, 15]], np.float32)
    np.testing.assert_allclose(TRANSFORM.boxes_to_image(boxes), [[0, 0, 100, 80], [50, 20, -10, -20]])


def test_points_of_any_shape_return_from_a_round_trip() -> None:
    points = np.random.default_rng(0).uniform(-50, 150, (7, 5, 2)).astype(np.float32)
    returned = TRANSFORM.to_image(TRANSFORM.to_input(points))
    assert returned.dtype == np.float32
    np.testing.assert_allclose(returned, points, atol=1e-4)


def test_no_boxes_stay_no_boxes() -> None:
    assert TRANSFORM.boxes_to_image(np.empty((0, 4), np.float32)).shape == (0, 4)
