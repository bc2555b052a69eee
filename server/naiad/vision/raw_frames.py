"""Uncompressed frames to BGR: sizes are checked against each other, the data and the limits. Pure."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

import cv2
import numpy as np

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from naiad.vision.arrays import Pixels
    from naiad.vision.images import ImageLimits


class PixelFormat(Enum):
    """How raw pixels lie in memory, 8 bits a sample.

    The first three are rows of whole pixels. NV12 and I420, what cameras and video decoders give, are a plane
    of luminance and then colour for every 2 x 2 pixels: a plane of pairs (blue, red), or one of blue and one
    of red.
    """

    BGR = "bgr"
    RGB = "rgb"
    GRAY = "gray"
    NV12 = "nv12"
    I420 = "i420"

    @property
    def subsampled(self) -> bool:
        """Whether four pixels share their colour."""
        return self in {PixelFormat.NV12, PixelFormat.I420}

    @property
    def row_channels(self) -> int:
        """Bytes a pixel takes in a row of the first plane."""
        return 3 if self in {PixelFormat.BGR, PixelFormat.RGB} else 1


_TO_BGR = {
    PixelFormat.RGB: cv2.COLOR_RGB2BGR,
    PixelFormat.GRAY: cv2.COLOR_GRAY2BGR,
    PixelFormat.NV12: cv2.COLOR_YUV2BGR_NV12,
    PixelFormat.I420: cv2.COLOR_YUV2BGR_I420,
}


def raw_image(  # noqa: PLR0917  # the fields of a raw picture, in the order of its message
    data: bytes | memoryview,
    pixel_format: PixelFormat,
    width: int,
    height: int,
    stride: int,
    limits: ImageLimits,
) -> Pixels:
    """View (BGR) or convert (all others) uncompressed pixels.

    Args:
        data: rows from the top. NV12 and I420: the rows of luminance, then the colour's. The padding of the
            very last row may be missing, but not in I420.
        pixel_format: what the rows hold. NV12 and I420 are taken as video's BT.601 (16 to 235).
        width: pixels in a row; even for NV12 and I420.
        height: rows; even for NV12 and I420.
        stride: bytes from one row to the next; 0 means no padding. NV12: also of the colour's rows. I420:
            even, since the colour's rows have half of it.
        limits: what is accepted.

    Returns:
        uint8 `[height, width, 3]`, BGR; for BGR a read-only view of `data`.

    Raises:
        InvalidArgumentError: the sizes contradict each other or the data.
        ResourceExhaustedError: over one of the limits.
    """
    view = memoryview(data).cast("B")
    limits.check_bytes(len(view))
    if width < 1 or height < 1:
        raise InvalidArgumentError(f"raw image is {width}x{height} pixels, both sides must be at least 1")
    limits.check_size(width, height)
    stride = _checked_stride(pixel_format, width, height, stride)
    rows = _rows(pixel_format, height)
    most = stride * rows
    least = most if pixel_format is PixelFormat.I420 else most - stride + width * pixel_format.row_channels
    if not least <= len(view) <= most:
        raise InvalidArgumentError(
            f"raw image has {len(view)} bytes, {width}x{height} {pixel_format.name} pixels with a stride of "
            f"{stride} bytes need {most}"
        )
    if pixel_format is PixelFormat.I420:
        # The colour's rows have half the stride, as if the padding were pixels: converted along and cut off.
        return _convert(np.ndarray((rows, stride), np.uint8, view), pixel_format)[:, :width]
    channels = pixel_format.row_channels
    shape = (rows, width) if pixel_format.subsampled else (rows, width, channels)
    samples: Pixels = np.ndarray(shape, np.uint8, view, strides=(stride, channels, 1)[: len(shape)])
    return samples if pixel_format is PixelFormat.BGR else _convert(samples, pixel_format)


def _checked_stride(pixel_format: PixelFormat, width: int, height: int, stride: int) -> int:
    if pixel_format.subsampled and (width % 2 or height % 2):
        raise InvalidArgumentError(
            f"raw image is {width}x{height} pixels, {pixel_format.name} needs an even width and height"
        )
    channels = pixel_format.row_channels
    row = width * channels
    stride = stride or row
    if stride < row:
        raise InvalidArgumentError(
            f"raw image has a stride of {stride} bytes, "
            f"{width} pixels of {channels} bytes need at least {row}"
        )
    if pixel_format is PixelFormat.I420 and stride % 2:
        raise InvalidArgumentError(
            f"raw image has a stride of {stride} bytes, I420 needs an even one: "
            "rows of colour have half of it"
        )
    return stride


def _rows(pixel_format: PixelFormat, height: int) -> int:
    """Rows of `stride` bytes that the data hold."""
    return height * 3 // 2 if pixel_format.subsampled else height


def _convert(samples: Pixels, pixel_format: PixelFormat) -> Pixels:
    converted: Pixels = cv2.cvtColor(samples, _TO_BGR[pixel_format])
    return converted
