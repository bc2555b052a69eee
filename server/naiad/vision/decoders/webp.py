"""WebP headers: the size in VP8, VP8L or VP8X, and whether the RIFF container is whole. Pure."""

from __future__ import annotations

import struct

from naiad.vision.decoders.header import Header, ImageFormat, damaged, truncated

_NAME = "WebP"
_CHUNK = 20
"""Where the first chunk's data begin: RIFF, size, WEBP, then the chunk's type and size."""
_HEADER_END = 30


def _matches(data: memoryview) -> bool:
    return bytes(data[:4]) == b"RIFF" and bytes(data[8:12]) == b"WEBP"


def _read_header(data: memoryview) -> Header:
    if len(data) < _HEADER_END:
        raise truncated(_NAME, f"its {len(data)} bytes end within the header")
    kind = bytes(data[12:16])
    if kind == b"VP8X":  # the canvas: 24 bits each, less one
        width = int.from_bytes(data[_CHUNK + 4 : _CHUNK + 7], "little") + 1
        height = int.from_bytes(data[_CHUNK + 7 : _CHUNK + 10], "little") + 1
    elif kind == b"VP8L" and data[_CHUNK] == 0x2F:  # 14 bits each, less one
        (bits,) = struct.unpack_from("<I", data, _CHUNK + 1)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif (
        kind == b"VP8 " and bytes(data[_CHUNK + 3 : _CHUNK + 6]) == b"\x9d\x01\x2a"
    ):  # 14 bits and 2 of scale
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, _CHUNK + 6))
    else:
        raise damaged(_NAME, f"its first chunk {kind!r} is not the start of a picture")
    return Header(width, height, _HEADER_END)


def _check_complete(data: memoryview, _header: Header) -> None:
    (size,) = struct.unpack_from("<I", data, 4)
    if len(data) < size + 8:
        raise truncated(_NAME, f"its header announces {size + 8} bytes, {len(data)} were received")


FORMAT = ImageFormat(_NAME, _matches, _read_header, _check_complete)
