"""BMP headers: the size in the info header, and whether the pixels are all there. Pure."""

from __future__ import annotations

import struct

from naiad.vision.decoders.header import Header, ImageFormat, truncated

_NAME = "BMP"
_FILE_HEADER = 14
_CORE_HEADER = 12
"""Size of the oldest info header, with 16-bit sides; every later one starts like BITMAPINFOHEADER."""
_HEADER_END = 34
_UNCOMPRESSED = frozenset({0, 3})


def _matches(data: memoryview) -> bool:
    return bytes(data[:2]) == b"BM"


def _read_header(data: memoryview) -> Header:
    if len(data) < _HEADER_END:
        raise truncated(_NAME, f"its {len(data)} bytes end within the header")
    (info_size,) = struct.unpack_from("<I", data, _FILE_HEADER)
    if info_size == _CORE_HEADER:
        width, height = struct.unpack_from("<HH", data, _FILE_HEADER + 4)
        return Header(width, height, _HEADER_END)
    width, height = struct.unpack_from("<ii", data, _FILE_HEADER + 4)
    return Header(width, abs(height), _HEADER_END)  # a negative height means rows from the top


def _check_complete(data: memoryview, header: Header) -> None:
    (pixels,) = struct.unpack_from("<I", data, 10)
    (info_size,) = struct.unpack_from("<I", data, _FILE_HEADER)
    core = info_size == _CORE_HEADER
    (bits,) = struct.unpack_from("<H", data, _FILE_HEADER + (10 if core else 14))
    (compression,) = (0,) if core else struct.unpack_from("<I", data, _FILE_HEADER + 16)
    if compression not in _UNCOMPRESSED:
        return  # run lengths: only decoding tells, and the decoder refuses a short file
    row = (header.width * bits + 31) // 32 * 4
    expected = pixels + row * header.height
    if len(data) < expected:
        raise truncated(
            _NAME,
            f"{header.width}x{header.height} pixels of {bits} bits need {expected} bytes, "
            f"{len(data)} were received",
        )


FORMAT = ImageFormat(_NAME, _matches, _read_header, _check_complete)
