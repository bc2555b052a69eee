"""Where pictures go: always inside, of the right shape, and rounded as each way to resize rounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from naiad.config.vision_config import Resize
from naiad.vision.placement import Area, Placement, fitted, place, scaled_to
from naiad.vision.transform import Origin

SCALED = [Resize.LETTERBOX, Resize.LETTERBOX_CENTER, Resize.STRETCH, Resize.CROP]
sides = st.integers(1, 3000)


def placed(resize: Resize, image: tuple[int, int], size: tuple[int, int], reduction: int = 1) -> Placement:
    """Of a picture whose original has that width and height."""
    width, height = (-(-side // reduction) for side in image)
    pixels = np.broadcast_to(np.zeros(3, np.uint8), (height, width, 3))
    return place(resize, pixels, Origin(*image, reduction), size)


@given(st.sampled_from(SCALED), st.tuples(sides, sides), st.tuples(sides, sides), st.sampled_from([1, 2, 8]))
def test_something_of_every_picture_lies_within_every_input(
    resize: Resize, image: tuple[int, int], size: tuple[int, int], reduction: int
) -> None:
    placement = placed(resize, image, size, reduction)
    limits = ((placement.source, [-(-side // reduction) for side in image]), (placement.target, size))
    for area, (width, height) in limits:
        assert area.left >= 0
        assert area.top >= 0
        assert 1 <= area.width <= width - area.left
        assert 1 <= area.height <= height - area.top
    if resize in {Resize.STRETCH, Resize.CROP}:
        assert placement.target == (0, 0, *size)
    else:
        assert size[0] == placement.target.width or size[1] == placement.target.height


def test_the_corner_rounds_down_and_the_middle_to_the_nearest() -> None:
    """1126 x 661 in 128 x 128 has 75.14 rows, 1126 x 665 has 75.6."""
    for rows, corner, middle in ((661, 75, 75), (665, 75, 76)):
        assert fitted(Resize.LETTERBOX, (1126, rows), (128, 128)) == (128, corner)
        assert fitted(Resize.LETTERBOX_CENTER, (1126, rows), (128, 128)) == (128, middle)
        assert fitted(Resize.LETTERBOX_CENTER, (rows, 1126), (128, 128)) == (middle, 128)


def test_a_reduced_picture_has_the_place_of_its_original() -> None:
    for resize in SCALED:
        whole, half = placed(resize, (801, 599), (64, 64)), placed(resize, (801, 599), (64, 64), 2)
        assert half.target == whole.target
        back, same = (
            placement.transform(Origin(801, 599, reduction), (64, 64)).to_image(
                np.array([[20, 30]], np.float32)
            )
            for placement, reduction in ((whole, 1), (half, 2))
        )
        np.testing.assert_allclose(back, same, atol=1.5)


def test_without_resizing_the_picture_keeps_its_size() -> None:
    assert placed(Resize.NONE, (30, 20), (64, 32)) == (Area(0, 0, 30, 20), Area(0, 0, 30, 20), False)


@pytest.mark.parametrize("size", [(30, 20), (12, 8)])
def test_scaling_writes_into_the_array_that_it_is_given(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    room = np.zeros((40, 50, 3), np.uint8)
    part = room[5 : 5 + size[1], 7 : 7 + size[0]]
    np.testing.assert_array_equal(scaled_to(image, size, part), scaled_to(image, size))
    np.testing.assert_array_equal(part, scaled_to(image, size))
    assert room.astype(int).sum() == part.astype(int).sum()
