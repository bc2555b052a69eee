"""PNG headers: the size in IHDR, and whether all chunks up to IEND are there. Pure."""

from __future__ import annotations

import struct

from naiad.vision.decoders.header import Header, ImageFormat, damaged, truncated

_NAME = "PNG"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_END = 33
"""Signature (8), then IHDR: length (4), type (4), data (13), checksum (4)."""
_FRAME = 12
"""What a chunk has around its data: length (4), type (4), checksum (4)."""
_MAX_CHUNKS = 65_536
"""Real files have up to some thousands. Bounds the work on a hostile file."""


def _matches(data: memoryview) -> bool:
    return bytes(data[:8]) == _SIGNATURE


def _read_header(data: memoryview) -> Header:
    if len(data) < _HEADER_END:
        raise truncated(_NAME, f"its {len(data)} bytes end within the header")
    length, kind, width, height = struct.unpack_from(">I4sII", data, len(_SIGNATURE))
    if kind != b"IHDR" or length != 13:
        raise damaged(_NAME, "its first chunk is not an IHDR of 13 bytes")
    return Header(width, height, _HEADER_END)


def _check_complete(data: memoryview, header: Header) -> None:
    """Walk the chunks: the decoder sets aside what a chunk claims to hold, up to 4 GB, before reading it."""
    position = header.end
    for _ in range(_MAX_CHUNKS):
        if position + _FRAME > len(data):
            raise truncated(_NAME, f"its {len(data)} bytes end before the IEND chunk")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + _FRAME + length
        if end > len(data):
            raise truncated(
                _NAME, f"chunk {kind!r} of {length} bytes ends at byte {end}, {len(data)} were received"
            )
        if kind == b"IEND":
            return
        position = end
    raise damaged(_NAME, f"more than {_MAX_CHUNKS} chunks")


FORMAT = ImageFormat(_NAME, _matches, _read_header, _check_complete)
