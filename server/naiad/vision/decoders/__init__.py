"""Picture formats by their first bytes: one module a format and one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError
from naiad.vision.decoders import bmp, jpeg, png, webp

if TYPE_CHECKING:
    from naiad.vision.decoders.header import ImageFormat

FORMATS: tuple[ImageFormat, ...] = (jpeg.FORMAT, png.FORMAT, webp.FORMAT, bmp.FORMAT)


def format_of(data: memoryview) -> ImageFormat:
    """The format whose signature `data` starts with.

    Raises:
        InvalidArgumentError: none of them.
    """
    for image_format in FORMATS:
        if image_format.matches(data):
            return image_format
    names = ", ".join(image_format.name for image_format in FORMATS)
    raise InvalidArgumentError(
        f"image has an unknown format: its {len(data)} bytes start with {bytes(data[:8]).hex(' ')}; "
        f"known formats are {names}"
    )
