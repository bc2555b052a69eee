"""Pictures as they come, and how they become pixels."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from naiad.core.errors import InvalidArgumentError, ResourceExhaustedError
from naiad.vision.images import decode_image, decode_reduced
from naiad.vision.raw_frames import raw_image
from naiad.vision.transform import Origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from naiad.vision.arrays import Pixels
    from naiad.vision.images import ImageLimits
    from naiad.vision.preprocess import Preprocessor
    from naiad.vision.raw_frames import PixelFormat


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """A whole JPEG, PNG, WebP or BMP file."""

    data: bytes


@dataclass(frozen=True, slots=True)
class RawPixels:
    """Uncompressed pixels; `stride` is the bytes from row to row, 0 for rows without gaps."""

    data: bytes
    format: PixelFormat
    width: int
    height: int
    stride: int


ImageSource = EncodedImage | RawPixels


class Picture(NamedTuple):
    """Decoded pixels, uint8 `[H, W, 3]` in BGR, and the upright original that they stand for."""

    pixels: Pixels
    origin: Origin


def decode(source: ImageSource, limits: ImageLimits) -> Picture:
    """All pixels of a picture.

    Raises:
        InvalidArgumentError: it is no picture, is broken, or its sizes contradict each other.
        ResourceExhaustedError: it is over one of the limits.
    """
    if isinstance(source, EncodedImage):
        pixels = decode_image(source.data, limits)
    else:
        pixels = raw_image(source.data, source.format, source.width, source.height, source.stride, limits)
    height, width = pixels.shape[:2]
    return Picture(pixels, Origin(width, height, 1))


def decode_for(source: ImageSource, limits: ImageLimits, preprocessor: Preprocessor) -> Picture:
    """As few pixels as that input needs, where a file can be decoded so; errors as `decode`."""
    if isinstance(source, EncodedImage):
        return Picture(*decode_reduced(source.data, limits, preprocessor.reduction))
    return decode(source, limits)


class HeldPixels:
    """Decoded pictures that wait for models with their pixels, counted. Used on the event loop's thread."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<HeldPixels bytes={self._bytes}/{self._max_bytes}>"

    @contextmanager
    def hold(self, pictures: Iterable[Picture]) -> Iterator[None]:
        """Count pictures for as long as the block lasts.

        Raises:
            ResourceExhaustedError: there are too many already.
        """
        size = sum(picture.pixels.nbytes for picture in pictures)
        if self._bytes + size > self._max_bytes:
            raise ResourceExhaustedError(
                f"{self._bytes} bytes of decoded pictures wait for their faces and {size} more came, "
                f"the limit is {self._max_bytes} (--max-held-image-bytes)"
            )
        self._bytes += size
        try:
            yield
        finally:
            self._bytes -= size


@contextmanager
def named(field: str) -> Iterator[None]:
    """Begin the message of whatever is wrong with a picture or a face with the request's `field`."""
    try:
        yield
    except (InvalidArgumentError, ResourceExhaustedError) as error:
        raise type(error)(f"{field}: {error.message}") from error
