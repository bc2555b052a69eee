"""Pixels to tensors: placement, colour, values and slots, and the settings that are refused."""

from __future__ import annotations

from dataclasses import replace
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
from naiad.vision.transform import Origin

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


def test_letterbox_in_the_centre_leaves_a_border_of_the_pad_value_all_around(photo: Pixels) -> None:
    """90 x 60 into 64 x 48: 42.67 rows are rounded to 43, two rows of border above and three below."""
    config = make_input(resize=Resize.LETTERBOX_CENTER, pad=114, scale=(0.5,) * 3)
    out, transform = Preprocessor(config, tensor(3, 48, 64))(photo)
    expected = cv2.resize(photo, (64, 43), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(out[:, 2:45], expected.transpose(2, 0, 1) / 2)
    assert (out[:, :2] == 57).all()
    assert (out[:, 45:] == 57).all()
    assert (transform.offset_x, transform.offset_y) == (0, 2)
    out, transform = Preprocessor(config, tensor(3, 48, 64))(np.rot90(photo))
    assert (out[:, :, :16] == 57).all()
    assert (out[:, :, 48:] == 57).all()
    assert (out[:, :, 16:48] != 57).any()
    assert (transform.offset_x, transform.offset_y) == (16, 0)


def test_crop_fills_the_input_and_cuts_both_sides_alike(photo: Pixels) -> None:
    """90 x 60 into 64 x 48: 80 of 90 columns are seen, so that a face near the edge lies outside the input."""
    out, transform = Preprocessor(make_input(resize=Resize.CROP), tensor(3, 48, 64))(photo)
    np.testing.assert_array_equal(out, cv2.resize(photo[:, 5:85], (64, 48)).transpose(2, 0, 1))
    corners = np.array([[0, 0], [64, 48]], np.float32)
    np.testing.assert_allclose(transform.to_image(corners), [[5, 0], [85, 60]], rtol=1e-6)
    out, transform = Preprocessor(make_input(resize=Resize.CROP), tensor(3, 48, 64))(np.rot90(photo))
    np.testing.assert_allclose(transform.to_image(corners), [[0, 22], [60, 67]], rtol=1e-6)


def test_crop_of_a_very_long_picture_scales_no_more_than_is_seen() -> None:
    """Scaled as a whole, this one would have 64 x 6.4 million pixels."""
    image = np.full((1, 100_000, 3), 7, np.uint8)
    out, transform = Preprocessor(make_input(resize=Resize.CROP), tensor(3, 48, 64))(image)
    assert (out == 7).all()
    assert transform.to_image(np.array([[32, 24]], np.float32))[0].tolist() == [49_999.5, 0.5]


@pytest.mark.parametrize("resize", [Resize.LETTERBOX, Resize.LETTERBOX_CENTER, Resize.CROP, Resize.STRETCH])
def test_the_way_back_leads_where_a_spot_was(resize: Resize) -> None:
    """A blurred spot of each picture is found in the input where the transform says that it is."""
    for height, width in ((240, 240), (180, 330), (400, 190)):
        row, column = height // 2 + 20, width // 2 - 30
        ys, xs = np.mgrid[:height, :width] + 0.5
        spot = 255 * np.exp(-((ys - row) ** 2 + (xs - column) ** 2) / (2 * 12**2))
        image = np.repeat(spot[..., np.newaxis], 3, axis=2).astype(np.uint8)
        out, transform = Preprocessor(make_input(resize=resize), tensor(3, 48, 64))(image)
        weights = out[0] / out[0].sum()
        ys, xs = np.mgrid[:48, :64] + 0.5
        found = np.array([(xs * weights).sum(), (ys * weights).sum()], np.float32)
        np.testing.assert_allclose(transform.to_image(found), [column, row], atol=0.5)


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("color", ColorOrder)
@pytest.mark.parametrize("resize", [Resize.LETTERBOX, Resize.LETTERBOX_CENTER, Resize.CROP, Resize.STRETCH])
def test_bytes_are_what_numbers_would_be_and_lie_in_the_slot(
    resize: Resize, color: ColorOrder, layout: Layout, photo: Pixels
) -> None:
    """A uint8 input in a slot of a larger buffer, border included, beside the float path."""
    channels = 1 if color is ColorOrder.GRAY else 3
    dims = (channels, 48, 64) if layout is Layout.NCHW else (48, 64, channels)
    config = make_input(
        resize=resize, color=color, layout=layout, pad=114, mean=(0.0,) * channels, scale=(1.0,) * channels
    )
    batch = np.full((3, *dims), 201, np.uint8)
    transform = Preprocessor(config, tensor(*dims, datatype=DataType.UINT8)).write(photo, batch[1])
    expected, same = Preprocessor(config, tensor(*dims))(photo)
    np.testing.assert_array_equal(batch[1], expected)
    assert transform == same
    assert (batch[[0, 2]] == 201).all()


def test_a_picture_of_the_right_size_is_copied_as_it_is(photo: Pixels) -> None:
    config = make_input(width=90, height=60, layout=Layout.NHWC)
    out, _ = Preprocessor(config, tensor(60, 90, 3, datatype=DataType.UINT8))(photo)
    np.testing.assert_array_equal(out, photo)
    assert not np.shares_memory(out, photo)


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


def test_free_size_pads_with_the_pad_value(photo: Pixels) -> None:
    config = make_input(resize=Resize.NONE, width=None, height=None, pad=9)
    out, _ = Preprocessor(config, tensor(3, -1, -1), multiple=32)(photo)
    assert (out[:, 60:] == 9).all()
    assert (out[:, :, 90:] == 9).all()


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


@pytest.mark.parametrize(
    ("size", "resize", "expected"),
    [
        ((64, 48), Resize.LETTERBOX, 1),
        ((127, 95), Resize.LETTERBOX, 1),
        ((128, 96), Resize.LETTERBOX, 2),
        ((255, 191), Resize.LETTERBOX, 2),
        ((256, 192), Resize.LETTERBOX, 4),
        ((4000, 3000), Resize.LETTERBOX, 8),
        ((192, 256), Resize.LETTERBOX, 4),  # on its side it is 256x192
        ((256, 20), Resize.LETTERBOX, 4),  # 64x5 within the input, however few rows that are
        ((256, 192), Resize.STRETCH, 2),  # on its side a quarter would have 48 columns for 64
        ((256, 20), Resize.STRETCH, 1),
    ],
)
def test_a_picture_is_reduced_no_further_than_its_place_in_the_input(
    size: tuple[int, int], resize: Resize, expected: int
) -> None:
    config = make_input(resize=resize, reduced_decode=True)
    preprocessor = Preprocessor(config, tensor(3, 48, 64))
    assert preprocessor.reduction(*size) == expected
    assert Preprocessor(replace(config, reduced_decode=False), tensor(3, 48, 64)).reduction(*size) == 1


def test_a_model_that_takes_any_size_gets_the_whole_picture() -> None:
    config = make_input(resize=Resize.NONE, width=None, height=None, reduced_decode=True)
    assert Preprocessor(config, tensor(3, -1, -1)).reduction(4000, 3000) == 1


@pytest.mark.parametrize("resize", [Resize.LETTERBOX, Resize.STRETCH])
@pytest.mark.parametrize("size", [(256, 192), (255, 190), (191, 257)])
def test_a_reduced_picture_lies_where_the_whole_one_would(resize: Resize, size: tuple[int, int]) -> None:
    """Two edges of a white block keep their places in the input and, mapped back, in the original."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[40:160, 40:160] = 255
    padded = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    reduced = cv2.resize(padded, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    preprocessor = Preprocessor(make_input(resize=resize, width=96, height=96), tensor(3, 96, 96))
    whole, place = preprocessor(image)
    shrunk, reduced_place = preprocessor(reduced, Origin(width, height, 2))
    assert np.abs(np.subtract(whole, shrunk, dtype=np.float32)).mean() < 4
    assert (reduced_place.image_width, reduced_place.image_height) == size
    block = np.array([[40, 40], [160, 160]], np.float32)
    # A letterbox of a whole picture takes one scale for both axes, up to a hundredth off.
    np.testing.assert_allclose(reduced_place.to_input(block), place.to_input(block), atol=0.7)
    there = reduced_place.to_input(block)
    np.testing.assert_allclose(reduced_place.to_image(there), block, atol=1e-3)
    left, right = np.flatnonzero(shrunk[0].max(axis=0) > 127)[[0, -1]]
    assert abs(left - there[0, 0]) <= 1
    assert abs(right + 1 - there[1, 0]) <= 1
