"""JPEG headers: walks the markers to the frame header and looks for the end of the scan data. Pure.

The walk follows libjpeg (fill bytes and stray bytes between markers are skipped), so that the size
checked here is the size that the decoder will allocate.
"""

from __future__ import annotations

import re
import struct
from itertools import islice
from typing import TYPE_CHECKING

from naiad.vision.decoders.header import Header, ImageFormat, damaged, truncated

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAME = "JPEG"
_MARKER = re.compile(rb"\xff+([\x01-\xfe])")
_END_OF_IMAGE = re.compile(rb"\xff\xd9")
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # those three are tables and extensions
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_TAIL_BYTES = 1024
"""Where the end of the image nearly always is; what cameras put after it is searched for it seldom."""
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})
_MAX_SEGMENTS = 2000
"""Segments looked at before the scan; real files have tens. Bounds the work on a hostile file."""
_EXIF = b"Exif\0\0"
_SCAN = re.compile(rb"\xff\xda")
_MAX_SCANS = 100
"""Progressive files have some ten scans. Each passes over the whole picture and may take just a few bytes."""


def _matches(data: memoryview) -> bool:
    return bytes(data[:3]) == b"\xff\xd8\xff"


def _segments(data: memoryview, position: int) -> Iterator[tuple[int, memoryview, int]]:
    """Each marker segment from `position` on: marker, content with its length, the byte after it."""
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, position)
        if found is None:
            raise truncated(_NAME, f"its {len(data)} bytes end before the scan data")
        marker, position = found[1][0], found.end()
        if marker in _WITHOUT_LENGTH:
            continue
        if marker in {_SOI, _EOI}:
            raise damaged(_NAME, f"marker 0x{marker:02X} before byte {position} comes before the scan data")
        segment = _segment(data, position)
        position += len(segment)
        yield marker, segment, position
    raise damaged(_NAME, f"more than {_MAX_SEGMENTS} segments before the scan data")


def _segment(data: memoryview, position: int) -> memoryview:
    """The segment that starts with its own length at `position`."""
    if position + 2 > len(data):
        raise truncated(_NAME, f"its {len(data)} bytes end within a marker")
    (length,) = struct.unpack_from(">H", data, position)
    if length < 2:
        raise damaged(_NAME, f"a segment at byte {position} has length {length}")
    if position + length > len(data):
        raise truncated(
            _NAME, f"its {len(data)} bytes end in a segment that ends at byte {position + length}"
        )
    return data[position : position + length]


def _read_header(data: memoryview) -> Header:
    for marker, segment, end in _segments(data, 2):
        if marker == _SOS:
            break
        if marker in _START_OF_FRAME:
            if len(segment) < 8:
                raise damaged(_NAME, f"its frame header has {len(segment)} bytes, at least 8 are needed")
            height, width, components = struct.unpack_from(">HHB", segment, 3)
            return Header(width, height, end, 0 if marker in _PROGRESSIVE else components)
    raise damaged(_NAME, "no frame header before the scan data")


def _check_complete(data: memoryview, header: Header) -> None:
    for marker, segment, end in _segments(data, header.end):
        if marker == _SOS:
            if not _has_end(data, end):
                raise truncated(_NAME, f"no end-of-image marker in the {len(data) - end} bytes of scan data")
            # After a scan of all components that is not progressive libjpeg takes no further one.
            is_only = len(segment) > 2 and segment[2] == header.components
            if not is_only and _has_many_scans(data, end):
                raise damaged(_NAME, f"more than {_MAX_SCANS} scans")
            return


def _has_many_scans(data: memoryview, start: int) -> bool:
    return next(islice(_SCAN.finditer(data, start), _MAX_SCANS - 1, None), None) is not None


def _has_end(data: memoryview, start: int) -> bool:
    """Whether an end-of-image marker comes after `start`.

    Within scan data 0xFF is always followed by 0 or a restart marker, so any is the real end.
    """
    tail = max(start, len(data) - _TAIL_BYTES)
    return b"\xff\xd9" in bytes(data[tail:]) or _END_OF_IMAGE.search(data, start) is not None


def _reduction(data: memoryview, header: Header, most: int) -> int:
    """Of a side that `most` does not divide, the last pixel stands for a part of a group only.

    Where an orientation may turn that end to the front, nobody could tell any more which end it was.
    """
    if _EXIF in bytes(data[: header.end]):
        while header.width % most or header.height % most:
            most //= 2
    return most


_LOSSES = (
    "bad Huffman code",
    "bad arithmetic code",
    "remature end of",
    "instead of RST",
    "Inconsistent progression",
)
"""libjpeg fills in grey for these. Stray bytes before a marker, its commonest complaint, cost no pixel."""

FORMAT = ImageFormat(_NAME, _matches, _read_header, _check_complete, losses=_LOSSES, reduction=_reduction)
