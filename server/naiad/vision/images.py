"""Bytes to pixels: encoded files and raw frames, each checked against limits before any work. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from naiad.core.errors import InvalidArgumentError, ResourceExhaustedError
from naiad.vision.decoders import format_of
from naiad.vision.decoders.header import damaged

if TYPE_CHECKING:
    from naiad.vision.arrays import Pixels


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The largest picture that is accepted: bytes as received, pixels as stored."""

    max_bytes: int
    max_pixels: int

    def check_bytes(self, size: int) -> None:
        """Refuse an empty or too long message.

        Raises:
            InvalidArgumentError: no bytes at all.
            ResourceExhaustedError: more than `max_bytes`.
        """
        if size == 0:
            raise InvalidArgumentError("image is empty: 0 bytes were received")
        if size > self.max_bytes:
            raise ResourceExhaustedError(
                f"image has {size} bytes, the limit is {self.max_bytes} (--max-image-bytes)"
            )

    def check_size(self, width: int, height: int) -> None:
        """Refuse a picture of too many pixels.

        Raises:
            ResourceExhaustedError: more than `max_pixels`.
        """
        if width * height > self.max_pixels:
            raise ResourceExhaustedError(
                f"image has {width}x{height} = {width * height} pixels, the limit is {self.max_pixels} "
                "(--max-image-pixels)"
            )


class PixelFormat(Enum):
    """How raw pixels lie in memory, 8 bits a channel."""

    BGR = "bgr"
    RGB = "rgb"
    GRAY = "gray"

    @property
    def channels(self) -> int:
        """Bytes a pixel takes."""
        return 1 if self is PixelFormat.GRAY else 3


def decode_image(data: bytes | memoryview, limits: ImageLimits) -> Pixels:
    """Decode a whole JPEG, PNG, WebP or BMP file.

    An EXIF orientation is applied, transparency is dropped without compositing, grey becomes three equal
    channels and 16 bits become 8. Format, size and completeness are read off the file before it is decoded.

    Returns:
        uint8 `[height, width, 3]`, BGR.

    Raises:
        InvalidArgumentError: empty, of unknown format, damaged, or cut short.
        ResourceExhaustedError: over one of the limits.
    """
    view = memoryview(data).cast("B")
    limits.check_bytes(len(view))
    image_format = format_of(view)
    header = image_format.read_header(view)
    if header.width < 1 or header.height < 1:
        raise damaged(image_format.name, f"its header says {header.width}x{header.height} pixels")
    limits.check_size(header.width, header.height)
    image_format.check_complete(view, header)
    try:
        pixels: Any = cv2.imdecode(np.frombuffer(view, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise damaged(image_format.name, f"the decoder gave up ({error.err or error})") from error
    if pixels is None:
        raise damaged(
            image_format.name,
            f"the decoder could not read its {header.width}x{header.height} pixels from {len(view)} bytes",
        )
    decoded: Pixels = pixels
    return decoded


def raw_image(  # noqa: PLR0917  # the fields of a raw picture, in the order of its message
    data: bytes | memoryview,
    pixel_format: PixelFormat,
    width: int,
    height: int,
    stride: int,
    limits: ImageLimits,
) -> Pixels:
    """View (BGR) or convert (RGB, grey) uncompressed pixels.

    Args:
        data: rows from the top; the last row's padding may be missing.
        pixel_format: order and number of channels.
        width: pixels in a row.
        height: rows.
        stride: bytes from one row to the next; 0 means width times channels.
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
    channels = pixel_format.channels
    row = width * channels
    stride = stride or row
    if stride < row:
        raise InvalidArgumentError(
            f"raw image has a stride of {stride} bytes, "
            f"{width} pixels of {channels} bytes need at least {row}"
        )
    least, most = stride * (height - 1) + row, stride * height
    if not least <= len(view) <= most:
        raise InvalidArgumentError(
            f"raw image has {len(view)} bytes, {width}x{height} {pixel_format.name} pixels with a stride of "
            f"{stride} bytes need {most}"
        )
    rows: Pixels = np.ndarray((height, width, channels), np.uint8, view, strides=(stride, channels, 1))
    return _to_bgr(rows, pixel_format)


def _to_bgr(rows: Pixels, pixel_format: PixelFormat) -> Pixels:
    if pixel_format is PixelFormat.BGR:
        return rows
    code = cv2.COLOR_RGB2BGR if pixel_format is PixelFormat.RGB else cv2.COLOR_GRAY2BGR
    converted: Pixels = cv2.cvtColor(rows, code)
    return converted
