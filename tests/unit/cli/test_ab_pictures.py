"""Input tensors turned back into pictures, and both versions' faces beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from support.vision import make_input

from naiad.cli.ab_pictures import pixels_of, write_pictures
from naiad.config.model_config import TensorConfig
from naiad.config.vision_config import ColorOrder, Layout, Resize
from naiad.core.datatypes import DataType
from naiad.core.errors import InternalError
from naiad.vision.detections import Detections
from naiad.vision.preprocess import Preprocessor

if TYPE_CHECKING:
    from pathlib import Path

NO_FACES = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32))


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("color", [ColorOrder.BGR, ColorOrder.RGB])
@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        (DataType.UINT8, {"mean": (0.0,), "scale": (1.0,)}),
        (DataType.FP32, {"mean": (123.7, 116.3, 103.5), "scale": (1 / 58.4, 1 / 57.1, 1 / 57.4)}),
        (DataType.FP16, {"mean": (127.5,), "scale": (1 / 128,)}),
    ],
)
def test_a_picture_comes_back_from_the_tensor_that_was_made_of_it(
    layout: Layout, color: ColorOrder, datatype: DataType, values: dict[str, Any]
) -> None:
    picture = np.random.default_rng(5).integers(0, 256, (6, 9, 3), np.uint8)
    config = make_input(layout=layout, color=color, width=9, height=6, resize=Resize.NONE, **values)
    dims = (3, 6, 9) if layout is Layout.NCHW else (6, 9, 3)
    tensor, _ = Preprocessor(config, TensorConfig("input", datatype, dims))(picture)
    np.testing.assert_array_equal(pixels_of(config, tensor), picture)


def test_a_grey_input_is_a_grey_picture() -> None:
    config = make_input(color=ColorOrder.GRAY, mean=(0.0,), scale=(1 / 255,))
    pixels = pixels_of(config, np.full((1, 1, 4, 5), 0.2, np.float32))
    assert pixels.shape == (4, 5, 3)
    assert (pixels == 51).all()


def test_numbers_of_no_picture_are_drawn_all_the_same() -> None:
    row = np.full((3, 4, 5), np.nan, np.float32)
    row[0], row[1] = np.inf, -1e30
    pixels = pixels_of(make_input(scale=(0.0,)), row)
    assert pixels.shape == (4, 5, 3)
    assert pixels.dtype == np.uint8


def test_each_picture_of_a_batch_is_a_png_with_both_versions_side_by_side(tmp_path: Path) -> None:
    config = make_input(width=600, height=400)
    face = Detections(
        np.array([[100, 100, 300, 300]], np.float32),
        np.array([0.9], np.float32),
        np.full((1, 5, 2), 200, np.float32),
    )
    found = {1: [face, NO_FACES], 2: None}
    write_pictures(tmp_path, "kept", config, np.zeros((2, 3, 400, 600), np.float32), found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept-0.png", "kept-1.png"]
    first, second = (cv2.imread(str(tmp_path / f"kept-{row}.png")) for row in (0, 1))
    assert first is not None
    assert second is not None
    assert (tmp_path / "kept-0.png").read_bytes()[1:4] == b"PNG"
    assert first.shape[1] == 2 * 600 + 6
    changed = (first[:400] != second[:400]).any(axis=2)
    assert changed[:, :600].any()
    assert not changed[:, 606:].any()


def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tensor = np.zeros((1, 3, 48, 64), np.float32)
    with pytest.raises(InternalError, match=r"gone/kept-0\.png"):
        write_pictures(tmp_path / "gone", "kept", make_input(), tensor, {1: [NO_FACES], 2: [NO_FACES]})
