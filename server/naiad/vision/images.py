"""Encoded files to pixels, each checked against limits before any work. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from naiad.core.errors import InvalidArgumentError, ResourceExhaustedError
from naiad.vision.decoders import format_of
from naiad.vision.decoders.complaints import complaints, first_line
from naiad.vision.decoders.header import damaged
from naiad.vision.transform import Origin

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.vision.arrays import Pixels
    from naiad.vision.decoders.header import Header, ImageFormat

_FLAGS = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""How OpenCV is asked for a picture of one n-th of each side."""
REDUCTIONS = (8, 4, 2)
"""The reduced scales there are, the smallest picture first."""


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
    return decode_reduced(data, limits, _whole)[0]


def decode_reduced(
    data: bytes | memoryview, limits: ImageLimits, reduction: Callable[[int, int], int]
) -> tuple[Pixels, Origin]:
    """Decode as `decode_image` does, but a JPEG at a half, a quarter or an eighth of its size.

    libjpeg then computes fewer pixels in the first place.

    Args:
        data: the file.
        limits: what is accepted; they count the pixels of the whole picture.
        reduction: given width and height as stored, by how much each side may shrink at most: 1, 2, 4 or 8.
            Must hold for the picture lying on its side, too: an orientation turns it after this was asked.

    Returns:
        uint8 `[ceil(height / n), ceil(width / n), 3]`, BGR, and the upright original that it stands for.

    Raises:
        InvalidArgumentError: as `decode_image`.
        ResourceExhaustedError: as `decode_image`.
    """
    view = memoryview(data).cast("B")
    limits.check_bytes(len(view))
    image_format = format_of(view)
    header = image_format.read_header(view)
    if header.width < 1 or header.height < 1:
        raise damaged(image_format.name, f"its header says {header.width}x{header.height} pixels")
    limits.check_size(header.width, header.height)
    image_format.check_complete(view, header)
    factor = image_format.reduction(view, header, reduction(header.width, header.height))
    pixels = _decode(view, image_format, header, factor)
    return pixels, _origin(pixels, image_format, header, factor)


def size_of(data: bytes | memoryview) -> tuple[int, int]:
    """Width and height of a file's picture as stored, read off its header alone.

    Raises:
        InvalidArgumentError: empty, of unknown format, or its header is damaged.
    """
    view = memoryview(data).cast("B")
    header = format_of(view).read_header(view)
    return header.width, header.height


def _whole(_width: int, _height: int) -> int:
    return 1


def _decode(view: memoryview, image_format: ImageFormat, header: Header, factor: int) -> Pixels:
    with complaints() as heard:
        try:
            pixels: Any = cv2.imdecode(np.frombuffer(view, np.uint8), _FLAGS[factor])
        except cv2.error as error:
            raise damaged(image_format.name, f"the decoder gave up ({error.err or error})") from error
    complaint = first_line(heard)
    if pixels is None:
        why = f" ({complaint})" if complaint else ""
        raise damaged(
            image_format.name,
            f"the decoder could not read its {header.width}x{header.height} pixels from {len(view)} bytes"
            f"{why}",
        )
    if any(loss in complaint for loss in image_format.losses):
        raise damaged(image_format.name, f"some of its pixels are missing ({complaint})")
    decoded: Pixels = pixels
    return decoded


def _origin(pixels: Pixels, image_format: ImageFormat, header: Header, factor: int) -> Origin:
    height, width = pixels.shape[:2]
    expected = -(-header.width // factor), -(-header.height // factor)  # rounded up, as libjpeg does
    if (width, height) == expected:
        return Origin(header.width, header.height, factor)
    if (height, width) == expected:
        return Origin(header.height, header.width, factor)
    raise damaged(
        image_format.name,
        f"its header says {header.width}x{header.height} pixels, the decoder gave {width}x{height} "
        f"at a scale of 1/{factor}",
    )
