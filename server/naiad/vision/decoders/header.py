"""What a picture's header tells, and how a format is described. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Header:
    """A picture's size in pixels as stored (before an EXIF orientation turns it).

    `end` is the byte after the part that was read. `components` is how many a JPEG's first scan must have to
    be its only one; 0 if there may be further ones anyway, and for other formats.
    """

    width: int
    height: int
    end: int
    components: int = 0


def _never(_data: memoryview, _header: Header, _most: int) -> int:
    return 1


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """One picture format; no function here decodes a pixel, and the work is bounded by the file's size.

    `matches` looks at the first bytes only. `read_header` reads the size. `check_complete` sees that the file
    was not cut short, which a decoder may answer by padding with grey. The last two raise
    InvalidArgumentError. `losses` are words of the decoder's complaints that mean missing pixels, where it
    gives a picture all the same. `reduction` is by how much the decoder can shrink each side for less work:
    1, 2, 4 or 8, at most the number given.
    """

    name: str
    matches: Callable[[memoryview], bool]
    read_header: Callable[[memoryview], Header]
    check_complete: Callable[[memoryview, Header], None]
    losses: tuple[str, ...] = ()
    reduction: Callable[[memoryview, Header, int], int] = _never


def truncated(name: str, reason: str) -> InvalidArgumentError:
    """The error for a file that ends too early."""
    return InvalidArgumentError(f"image is a truncated {name}: {reason}")


def damaged(name: str, reason: str) -> InvalidArgumentError:
    """The error for a file that contradicts its format."""
    return InvalidArgumentError(f"image is a damaged {name}: {reason}")
