"""Header blocks out of HEADERS and CONTINUATION frames. RFC 9113, sections 6.2 and 6.10."""

from __future__ import annotations

from typing import Final, NamedTuple

from naiad.services.http2 import frames
from naiad.services.http2.faults import ConnectionFault

MAX_BLOCK_BYTES: Final = 32 * 1024
"""The longest header block, as it comes; one that lists more than is taken can still be told so."""

PRIORITY_BYTES: Final = 5


class Block(NamedTuple):
    """A whole header block, not decoded yet."""

    stream_id: int
    ends_stream: bool
    data: bytes


class BlockReader:
    """Puts the header blocks of one connection together, one at a time."""

    __slots__ = ("_ends_stream", "_parts", "_stream_id")

    def __init__(self) -> None:
        self._parts: bytearray | None = None
        self._stream_id = 0
        self._ends_stream = False

    @property
    def is_within(self) -> bool:
        """Whether a block has begun, so that nothing but its CONTINUATION may come."""
        return self._parts is not None

    def headers(self, flags: int, stream_id: int, payload: memoryview) -> Block | None:
        """Begin a block; returns it if it is whole.

        Raises:
            ConnectionFault: the frame is damaged.
        """
        if not stream_id & 1:
            raise ConnectionFault(frames.PROTOCOL_ERROR, f"HEADERS on stream {stream_id}")
        part = _fragment(flags, stream_id, payload)
        ends_stream = bool(flags & frames.END_STREAM)
        if flags & frames.END_HEADERS:
            return Block(stream_id, ends_stream, bytes(part))
        self._parts = bytearray(part)
        self._stream_id = stream_id
        self._ends_stream = ends_stream
        return None

    def continuation(self, flags: int, stream_id: int, payload: memoryview) -> Block | None:
        """Go on with a block; returns it if it is whole.

        Raises:
            ConnectionFault: there is none to go on with, or it is too long.
        """
        parts = self._parts
        if parts is None or stream_id != self._stream_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "CONTINUATION without its HEADERS")
        parts += payload
        if len(parts) > MAX_BLOCK_BYTES:
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, f"a header block over {MAX_BLOCK_BYTES} bytes")
        if not flags & frames.END_HEADERS:
            return None
        self._parts = None
        return Block(self._stream_id, self._ends_stream, bytes(parts))


def _fragment(flags: int, stream_id: int, payload: memoryview) -> memoryview:
    """A HEADERS payload without padding and priority."""
    start, stop = 0, len(payload)
    if flags & frames.PADDED:
        if not payload:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "HEADERS too short for its padding")
        start = 1
        stop -= payload[0]
    if flags & frames.HAS_PRIORITY:
        if len(payload) - start < PRIORITY_BYTES:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, "HEADERS too short for its priority")
        check_dependency(stream_id, payload[start:])
        start += PRIORITY_BYTES
    if stop < start:
        raise ConnectionFault(frames.PROTOCOL_ERROR, "padding longer than its frame")
    return payload[start:stop]


def check_dependency(stream_id: int, payload: memoryview) -> None:
    """See that a stream does not depend on itself; nothing else of priorities is looked at.

    Raises:
        ConnectionFault: it does.
    """
    if int.from_bytes(payload[:4], "big") & frames.STREAM_ID_BITS == stream_id:
        raise ConnectionFault(frames.PROTOCOL_ERROR, "a stream that depends on itself")
