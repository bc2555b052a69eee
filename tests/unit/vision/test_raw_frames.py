"""Uncompressed frames: each pixel format arrives as BGR, sizes that contradict each other are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from naiad.core.errors import InvalidArgumentError, ResourceExhaustedError
from naiad.vision.images import ImageLimits
from naiad.vision.raw_frames import PixelFormat, raw_image

if TYPE_CHECKING:
    from naiad.vision.arrays import Pixels

PACKED = [PixelFormat.BGR, PixelFormat.RGB, PixelFormat.GRAY]
SUBSAMPLED = [PixelFormat.NV12, PixelFormat.I420]


@pytest.mark.parametrize("pixel_format", PACKED)
@pytest.mark.parametrize("padding", [0, 5])
def test_raw_pixels_arrive_as_bgr_whatever_their_order_and_stride(
    pixel_format: PixelFormat, padding: int, photo: Pixels, limits: ImageLimits
) -> None:
    stored = {"BGR": photo, "RGB": photo[..., ::-1], "GRAY": photo[..., :1]}[pixel_format.name]
    expected = np.repeat(stored, 3, axis=2) if pixel_format is PixelFormat.GRAY else photo
    rows = stored.reshape(60, -1)
    data = np.pad(rows, ((0, 0), (0, padding))).tobytes()
    stride = rows.shape[1] + padding
    for received in (data, data[: len(data) - padding]):  # the last row's padding is optional
        image = raw_image(received, pixel_format, 90, 60, stride if padding else 0, limits)
        np.testing.assert_array_equal(image, expected)


def test_raw_bgr_is_viewed_not_copied(photo: Pixels, limits: ImageLimits) -> None:
    data = photo.tobytes()
    image = raw_image(data, PixelFormat.BGR, 90, 60, 0, limits)
    assert np.shares_memory(image, np.frombuffer(data, np.uint8))


@pytest.mark.parametrize(
    ("size", "shape", "stride", "words"),
    [
        (299, (10, 10), 0, "has 299 bytes, 10x10 BGR pixels with a stride of 30 bytes need 300"),
        (301, (10, 10), 0, "has 301 bytes"),
        (300, (10, 10), 29, "stride of 29 bytes, 10 pixels of 3 bytes need at least 30"),
        (300, (0, 10), 0, "0x10"),
        (0, (10, 10), 0, "empty"),
    ],
)
def test_raw_sizes_that_contradict_each_other_are_refused(
    size: int, shape: tuple[int, int], stride: int, words: str, limits: ImageLimits
) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        raw_image(bytes(size), PixelFormat.BGR, *shape, stride, limits)


def test_raw_pixels_obey_the_limits() -> None:
    with pytest.raises(ResourceExhaustedError, match="--max-image-pixels"):
        raw_image(bytes(300), PixelFormat.BGR, 10, 10, 0, ImageLimits(300, 99))
    with pytest.raises(ResourceExhaustedError, match="--max-image-bytes"):
        raw_image(bytes(300), PixelFormat.BGR, 10, 10, 0, ImageLimits(299, 100))


def planes(pixel_format: PixelFormat, image: Pixels, stride: int) -> bytes:
    """The picture as that format, its rows padded with noise to the stride."""
    height, width = image.shape[:2]
    flat = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420).reshape(-1)
    luminance = flat[: width * height].reshape(height, width)
    blue, red = flat[width * height :].reshape(2, height // 2, width // 2)
    if pixel_format is PixelFormat.NV12:
        pairs = np.dstack([blue, red]).reshape(height // 2, width)
        return padded(luminance, stride) + padded(pairs, stride)
    return padded(luminance, stride) + padded(blue, stride // 2) + padded(red, stride // 2)


def padded(rows: Pixels, stride: int) -> bytes:
    out = np.random.default_rng(1).integers(0, 256, (len(rows), stride), np.uint8)
    out[:, : rows.shape[1]] = rows
    return out.tobytes()


def by_hand(image: Pixels) -> Pixels:
    """The colour of one even picture through BT.601's own formula."""
    blue, green, red = image[0, 0] / 255
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    y, u, v = 16 + 219 * luminance, 112 * (blue - luminance) / 0.886, 112 * (red - luminance) / 0.701
    rgb = [
        1.164 * (y - 16) + factor_u * u + factor_v * v
        for factor_u, factor_v in ((2.017, 0), (-0.392, -0.813), (0, 1.596))
    ]
    return np.array(rgb, np.float32).round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("pixel_format", SUBSAMPLED)
@pytest.mark.parametrize(("height", "stride"), [(60, 0), (60, 90), (60, 96), (58, 90), (58, 128), (2, 100)])
def test_a_video_frame_arrives_as_bgr_whatever_its_stride(
    pixel_format: PixelFormat, height: int, stride: int, photo: Pixels, limits: ImageLimits
) -> None:
    """Heights that 4 divides and others: the planes of I420 then end in the middle of a row of luminance."""
    stored = np.ascontiguousarray(photo[:height])
    image = raw_image(planes(pixel_format, stored, stride or 90), pixel_format, 90, height, stride, limits)
    assert image.shape == stored.shape
    assert np.abs(image.astype(int) - stored).mean() < 4


@pytest.mark.parametrize("pixel_format", SUBSAMPLED)
@pytest.mark.parametrize("color", [(200, 30, 60), (20, 220, 40), (10, 60, 250), (128, 128, 128)])
def test_a_plain_video_frame_has_the_colour_that_the_standard_gives(
    pixel_format: PixelFormat, color: tuple[int, int, int], limits: ImageLimits
) -> None:
    plain = np.full((4, 6, 3), color, np.uint8)
    image = raw_image(planes(pixel_format, plain, 6), pixel_format, 6, 4, 0, limits)
    assert np.abs(image.astype(int) - by_hand(plain)).max() <= 3


def test_the_last_rows_padding_may_be_missing_in_nv12_but_not_in_i420(
    photo: Pixels, limits: ImageLimits
) -> None:
    whole = raw_image(planes(PixelFormat.NV12, photo, 96), PixelFormat.NV12, 90, 60, 96, limits)
    short = raw_image(planes(PixelFormat.NV12, photo, 96)[:-6], PixelFormat.NV12, 90, 60, 96, limits)
    np.testing.assert_array_equal(whole, short)
    with pytest.raises(InvalidArgumentError, match="8637 bytes, 90x60 I420 .* stride of 96 bytes need 8640"):
        raw_image(planes(PixelFormat.I420, photo, 96)[:-3], PixelFormat.I420, 90, 60, 96, limits)


@pytest.mark.parametrize("pixel_format", SUBSAMPLED)
@pytest.mark.parametrize(
    ("size", "shape", "stride", "words"),
    [
        (135, (9, 10), 0, "9x10 pixels, .* needs an even width and height"),
        (135, (10, 9), 0, "10x9 pixels, .* needs an even width and height"),
        (149, (10, 10), 0, "has 149 bytes, 10x10 .* stride of 10 bytes need 150"),
        (151, (10, 10), 0, "has 151 bytes"),
        (150, (10, 10), 9, "stride of 9 bytes, 10 pixels of 1 bytes need at least 10"),
    ],
)
def test_video_frames_of_impossible_sizes_are_refused(  # noqa: PLR0917  # the table's columns
    pixel_format: PixelFormat,
    size: int,
    shape: tuple[int, int],
    stride: int,
    words: str,
    limits: ImageLimits,
) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        raw_image(bytes(size), pixel_format, *shape, stride, limits)


def test_an_odd_stride_cannot_be_halved_for_the_colour_of_i420(limits: ImageLimits) -> None:
    with pytest.raises(InvalidArgumentError, match="stride of 11 bytes, I420 needs an even one"):
        raw_image(bytes(165), PixelFormat.I420, 10, 10, 11, limits)


@pytest.mark.parametrize("pixel_format", SUBSAMPLED)
def test_video_frames_obey_the_limits(pixel_format: PixelFormat) -> None:
    assert raw_image(bytes(150), pixel_format, 10, 10, 0, ImageLimits(150, 100)).shape == (10, 10, 3)
    with pytest.raises(ResourceExhaustedError, match="--max-image-pixels"):
        raw_image(bytes(150), pixel_format, 10, 10, 0, ImageLimits(150, 99))
    with pytest.raises(ResourceExhaustedError, match="--max-image-bytes"):
        raw_image(bytes(150), pixel_format, 10, 10, 0, ImageLimits(149, 100))
