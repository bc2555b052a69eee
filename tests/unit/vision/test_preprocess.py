"""Pixels to tensors: placement, colour, values and slots, and the settings that are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from support.vision import make_input

from naiad.config.model_config import TensorConfig
from naiad.config.vision_config import ColorOrder, Layout, Resize
from naiad.core.datatypes import DataType
from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.vision.preprocess import Preprocessor

if TYPE_CHECKING:
    from naiad.vision.arrays import Pixels


def tensor(*dims: int, datatype: DataType = DataType.FP32) -> TensorConfig:
    return TensorConfig("input", datatype, dims)


def test_letterbox_fits_the_long_side_and_leaves_black_below(photo: Pixels) -> None:
    """90 x 60 into 64 x 48: the width fits, 42 of 48 rows are picture."""
    out, transform = Preprocessor(make_input(), tensor(3, 48, 64))(photo)
    expected = cv2.resize(photo, (64, 42), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(out[:, :42], expected.transpose(2, 0, 1))
    assert not out[:, 42:].any()
    assert (transform.image_width, transform.image_height) == (90, 60)
    assert (transform.input_width, transform.input_height) == (64, 48)


def test_letterbox_of_a_tall_picture_leaves_black_at_the_right(photo: Pixels) -> None:
    out, transform = Preprocessor(make_input(), tensor(3, 48, 64))(np.rot90(photo))
    assert out[:, :, :32].any(axis=(0, 1)).all()
    assert not out[:, :, 32:].any()
    assert transform.scale_y == 48 / 90


def test_border_is_black_after_mean_and_scale_too(photo: Pixels) -> None:
    config = make_input(mean=(10.0, 20.0, 30.0), scale=(0.5, 0.5, 2.0))
    out, _ = Preprocessor(config, tensor(3, 48, 64))(photo)
    np.testing.assert_array_equal(out[:, -1, -1], [-5, -10, -60])


def test_letterbox_and_back_hits_the_same_places(photo: Pixels) -> None:
    """The corners of the fitted picture are the corners of the picture, within rounding."""
    for height, width in ((60, 90), (123, 77), (48, 64), (7, 300), (3000, 11)):
        image = np.zeros((height, width, 3), np.uint8)
        _, transform = Preprocessor(make_input(), tensor(3, 48, 64))(image)
        fit = min(48 / height, 64 / width)
        corner = np.array([[width, height]], np.float32)
        there = transform.to_input(corner)
        assert np.abs(there - corner * fit).max() <= 1
        np.testing.assert_allclose(transform.to_image(there), corner, rtol=1e-5)


def test_stretch_fills_the_input_with_a_scale_for_each_axis(photo: Pixels) -> None:
    out, transform = Preprocessor(make_input(resize=Resize.STRETCH), tensor(3, 48, 64))(photo)
    np.testing.assert_array_equal(out, cv2.resize(photo, (64, 48)).transpose(2, 0, 1))
    assert (transform.scale_x, transform.scale_y) == (64 / 90, 48 / 60)


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("color", ColorOrder)
@pytest.mark.parametrize("datatype", [DataType.UINT8, DataType.FP16, DataType.FP32])
def test_every_layout_colour_and_type_holds_the_same_picture(
    layout: Layout, color: ColorOrder, datatype: DataType, photo: Pixels
) -> None:
    channels = 1 if color is ColorOrder.GRAY else 3
    plain = datatype is DataType.UINT8
    mean = (0.0,) * channels if plain else (127.0, 64.0, 3.5)[:channels]
    scale = (1.0,) * channels if plain else (1 / 128, 0.25, 2.0)[:channels]
    config = make_input(
        color=color, layout=layout, mean=mean, scale=scale, resize=Resize.NONE, width=None, height=None
    )
    dims = (channels, -1, -1) if layout is Layout.NCHW else (-1, -1, channels)
    out, _ = Preprocessor(config, tensor(*dims, datatype=datatype))(photo)
    assert out.dtype == datatype.numpy
    pixels = {
        ColorOrder.BGR: photo,
        ColorOrder.RGB: photo[..., ::-1],
        ColorOrder.GRAY: cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY)[..., np.newaxis],
    }[color]
    expected = (pixels - np.array(mean)) * np.array(scale)
    actual = out.transpose(1, 2, 0) if layout is Layout.NCHW else out
    np.testing.assert_array_equal(actual, expected.astype(datatype.numpy))


@pytest.mark.parametrize("layout", Layout)
def test_a_slot_of_a_batch_is_overwritten_and_its_neighbours_are_not(layout: Layout, photo: Pixels) -> None:
    dims = (3, 48, 64) if layout is Layout.NCHW else (48, 64, 3)
    preprocessor = Preprocessor(make_input(layout=layout), tensor(*dims))
    batch = np.full((3, *dims), 777, np.float32)
    preprocessor.write(photo, batch[1])
    np.testing.assert_array_equal(batch[1], preprocessor(photo)[0])
    assert (batch[[0, 2]] == 777).all()
    assert (batch[1] != 777).all()


def test_a_picture_of_one_row_or_one_column_still_fits() -> None:
    for shape in ((1, 5000, 3), (5000, 1, 3), (1, 1, 3)):
        for layout, dims in ((Layout.NCHW, (3, 48, 64)), (Layout.NHWC, (48, 64, 3))):
            image = np.full(shape, 200, np.uint8)
            out, transform = Preprocessor(make_input(layout=layout), tensor(*dims))(image)
            assert set(np.unique(out)) <= {0.0, 200.0}
            assert (out == 200).any()
            corner = np.array([shape[1::-1]], np.float32)
            assert (transform.to_input(corner) <= [64.001, 48.001]).all()


def test_views_that_are_not_contiguous_are_read_right(photo: Pixels) -> None:
    preprocessor = Preprocessor(make_input(), tensor(3, 48, 64))
    for view in (photo[5:50, 7:80], photo[::-1], photo[:, ::-1]):
        np.testing.assert_array_equal(preprocessor(view)[0], preprocessor(np.ascontiguousarray(view))[0])


def test_a_leading_one_in_the_dims_is_kept(photo: Pixels) -> None:
    preprocessor = Preprocessor(make_input(), tensor(1, 3, 48, 64))
    assert preprocessor.shape_for(photo) == (1, 3, 48, 64)
    plain, _ = Preprocessor(make_input(), tensor(3, 48, 64))(photo)
    np.testing.assert_array_equal(preprocessor(photo)[0][0], plain)


def test_free_size_pads_with_black_to_the_multiple(photo: Pixels) -> None:
    config = make_input(resize=Resize.NONE, width=None, height=None)
    out, transform = Preprocessor(config, tensor(3, -1, -1), multiple=32)(photo)
    assert out.shape == (3, 64, 96)
    np.testing.assert_array_equal(out[:, :60, :90], photo.transpose(2, 0, 1))
    assert not out[:, 60:].any()
    assert not out[:, :, 90:].any()
    assert (transform.scale_x, transform.scale_y) == (1, 1)
    assert (transform.input_width, transform.input_height) == (96, 64)


def test_a_size_in_the_config_fixes_free_dims(photo: Pixels) -> None:
    assert Preprocessor(make_input(), tensor(3, -1, -1)).shape_for(photo) == (3, 48, 64)


def test_without_resizing_another_size_is_refused_with_both_sizes(photo: Pixels) -> None:
    preprocessor = Preprocessor(make_input(resize=Resize.NONE), tensor(3, 48, 64))
    with pytest.raises(InvalidArgumentError, match="image is 90x60 pixels, input 'input' takes 64x48"):
        preprocessor(photo)
    assert preprocessor(photo[:48, :64])[0].shape == (3, 48, 64)


def test_a_slot_of_the_wrong_shape_or_type_is_refused(photo: Pixels) -> None:
    preprocessor = Preprocessor(make_input(), tensor(3, 48, 64))
    with pytest.raises(InternalError, match=r"float32 \[3, 64, 48\], needs float32 \[3, 48, 64\]"):
        preprocessor.write(photo, np.empty((3, 64, 48), np.float32))
    with pytest.raises(InternalError, match="float64"):
        preprocessor.write(photo, np.empty((3, 48, 64), np.float64))


@pytest.mark.parametrize(
    ("changes", "dims", "datatype", "words"),
    [
        ({}, (3, 48, 64), DataType.INT64, "'input' is TYPE_INT64"),
        ({"scale": (0.5,) * 3}, (3, 48, 64), DataType.UINT8, "naiad.input.scale"),
        ({}, (1, 48, 64), DataType.FP32, "naiad.input.color 'bgr' has 3 channels, input 'input' has 1"),
        ({"layout": Layout.NHWC}, (3, 48, 64), DataType.FP32, "has 64"),
        ({}, (3, 48, 80), DataType.FP32, "naiad.input.size has a width of 64, input 'input' takes 80"),
        ({}, (3, 40, 64), DataType.FP32, "naiad.input.size has a height of 48, input 'input' takes 40"),
        ({"width": None}, (3, 48, -1), DataType.FP32, "'letterbox' needs naiad.input.size"),
        ({"height": 0}, (3, -1, -1), DataType.FP32, "height of 0"),
        ({}, (48, 64), DataType.FP32, r"has dims \[48, 64\], a picture needs three"),
        ({"mean": (1.0, 2.0)}, (3, 48, 64), DataType.FP32, r"naiad.input.mean is \[1.0, 2.0\]"),
        ({"scale": (float("nan"),)}, (3, 48, 64), DataType.FP32, "naiad.input.scale"),
    ],
)
def test_settings_that_contradict_the_tensor_are_refused_with_their_key(
    changes: dict[str, Any], dims: tuple[int, ...], datatype: DataType, words: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        Preprocessor(make_input(**changes), tensor(*dims, datatype=datatype))


def test_the_input_is_found_by_name(photo: Pixels) -> None:
    other = TensorConfig("other", DataType.INT32, (1,))
    assert Preprocessor.for_inputs(make_input(), [other, tensor(3, 48, 64)]).shape_for(photo) == (3, 48, 64)
    with pytest.raises(InvalidArgumentError, match="tensor 'input', the model's inputs are other"):
        Preprocessor.for_inputs(make_input(), [other])
