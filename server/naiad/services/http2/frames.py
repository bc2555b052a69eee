"""HTTP/2's frames as bytes: types, flags, codes, and how each is written. RFC 9113, sections 4 to 7."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES: Final = 9

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x1
INTERNAL_ERROR: Final = 0x2
FLOW_CONTROL_ERROR: Final = 0x3
STREAM_CLOSED: Final = 0x5
FRAME_SIZE_ERROR: Final = 0x6
REFUSED_STREAM: Final = 0x7
CANCEL: Final = 0x8
COMPRESSION_ERROR: Final = 0x9
ENHANCE_YOUR_CALM: Final = 0xB

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6

DEFAULT_WINDOW: Final = 65_535
DEFAULT_FRAME_BYTES: Final = 16_384
MAX_WINDOW: Final = 2**31 - 1
LARGEST_FRAME_BYTES: Final = 2**24 - 1
STREAM_ID_BITS: Final = 2**31 - 1
"""The lower 31 bits of a stream's id; the highest is reserved."""

# Three bytes of length and one of type are one number; then the flags and the stream.
_HEADER = Struct(">IBI")
_NUMBER = Struct(">I")
_SETTING = Struct(">HI")
_TWO_NUMBERS = Struct(">II")

unpack_header = _HEADER.unpack_from
"""`(length << 8 | type, flags, stream id)` of the nine bytes at an offset."""


def frame_header(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The nine bytes before a payload of `length` bytes."""
    return _HEADER.pack(length << 8 | kind, flags, stream_id)


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """A whole frame."""
    return _HEADER.pack(len(payload) << 8 | kind, flags, stream_id) + payload


def settings_frame(values: Mapping[int, int]) -> bytes:
    """What this end asks of the other one."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*item) for item in values.items()))


SETTINGS_ACK: Final = frame(SETTINGS, ACK, 0)


def read_settings(payload: memoryview) -> list[tuple[int, int]]:
    """The identifiers and values of a SETTINGS payload whose length is a multiple of six."""
    return list(_SETTING.iter_unpack(payload))


def window_update(stream_id: int, count: int) -> bytes:
    """Let the other end send `count` bytes more, on a stream or, as stream 0, on the connection."""
    return _HEADER.pack(4 << 8 | WINDOW_UPDATE, 0, stream_id) + _NUMBER.pack(count)


def rst_stream(stream_id: int, code: int) -> bytes:
    """End a stream at once."""
    return _HEADER.pack(4 << 8 | RST_STREAM, 0, stream_id) + _NUMBER.pack(code)


def goaway(last_stream_id: int, code: int, reason: bytes = b"") -> bytes:
    """No stream after the last one is answered."""
    return frame(GOAWAY, 0, 0, _TWO_NUMBERS.pack(last_stream_id, code) + reason)


def headers_frames(
    stream_id: int, block: bytes, *, ends_stream: bool = False, max_bytes: int = DEFAULT_FRAME_BYTES
) -> bytes:
    """A header block as HEADERS and, where it is longer than a frame may be, CONTINUATION."""
    flags = END_STREAM if ends_stream else 0
    if len(block) <= max_bytes:
        return _HEADER.pack(len(block) << 8 | HEADERS, flags | END_HEADERS, stream_id) + block
    parts = [frame(HEADERS, flags, stream_id, block[:max_bytes])]
    for start in range(max_bytes, len(block), max_bytes):
        is_last = start + max_bytes >= len(block)
        parts.append(
            frame(CONTINUATION, END_HEADERS if is_last else 0, stream_id, block[start : start + max_bytes])
        )
    return b"".join(parts)
