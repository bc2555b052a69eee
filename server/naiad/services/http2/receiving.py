"""Bytes from a connection to frames; DATA is handed on as it comes, large messages into their own memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from naiad.services.http2 import frames
from naiad.services.http2.faults import ConnectionFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.services.http2.stream import Stream

READ_BYTES: Final = 64 * 1024
"""How much one read takes at most, but for large messages: what of these comes here is copied once more."""

DIRECT_BYTES: Final = 16 * 1024
"""From so much on that is still to come of a message, the kernel writes it where it belongs."""

TURN_S: Final = 0.01
"""After so long no further frame is taken before the loop has seen to other connections."""

MAX_PAYLOAD_BYTES: Final = 33 * 1024
"""The longest payload of a frame that is not DATA: these are looked at when they are whole."""


class ReceiveBuffer:
    """Where every connection of a server reads into: what is read is taken out before the next one reads."""

    def __init__(self, size: int = READ_BYTES) -> None:
        self.memory = bytearray(size)
        self.view = memoryview(self.memory)


class FrameSink(Protocol):
    """What frames are told to. Each method may raise ConnectionFault, which ends the connection."""

    def frame(self, kind: int, flags: int, stream_id: int, payload: memoryview) -> None:
        """A whole frame that is not DATA; `payload` is only valid during the call."""

    def data_begins(self, stream_id: int, length: int, flags: int) -> Stream | None:
        """A DATA frame of `length` bytes begins; None if its bytes are to be forgotten."""

    def data_ends(self, stream: Stream) -> None:
        """The stream's last DATA frame is whole."""


class FrameReader:
    """Cuts what a connection receives into frames.

    The parts of DATA are given to the stream in pieces as they come. All else waits in `_rest` until it is
    whole.
    """

    __slots__ = (
        "_begun",
        "_buffer",
        "_clock",
        "_data_left",
        "_ends_stream",
        "_is_behind",
        "_max_frame_bytes",
        "_rest",
        "_room",
        "_sink",
        "_skip",
        "_stream",
    )

    def __init__(
        self, sink: FrameSink, buffer: ReceiveBuffer, max_frame_bytes: int, clock: Callable[[], float]
    ) -> None:
        self._sink = sink
        self._clock = clock
        self._is_behind = False
        self._buffer = buffer
        self._max_frame_bytes = max_frame_bytes
        self._begun = False
        self._rest = b""
        self._room: memoryview | None = None
        self._stream: Stream | None = None
        self._data_left = 0
        self._skip = 0
        self._ends_stream = False

    @property
    def begun(self) -> bool:
        """Whether the client has said that it speaks HTTP/2."""
        return self._begun

    @property
    def is_behind(self) -> bool:
        """Whether frames may wait in what was read: `go_on` before more is read into `room()`."""
        return self._is_behind

    def go_on(self) -> None:
        """Take what waits, as far as a turn's time goes.

        Raises:
            ConnectionFault: as `received`.
        """
        self.room()
        self.received(0)

    def room(self) -> memoryview:
        """Where to read into next."""
        if self._room is not None:
            return self._room
        rest = self._rest
        if not rest:
            return self._buffer.view
        self._buffer.memory[: len(rest)] = rest
        return self._buffer.view[len(rest) :]

    def received(self, count: int) -> None:
        """Take `count` bytes that were read into `room()`.

        Raises:
            ConnectionFault: what came is no HTTP/2.
        """
        if self._room is not None:
            self._filled(count)
            return
        stop = len(self._rest) + count
        start = self._cut(stop)
        self._rest = bytes(self._buffer.view[start:stop]) if start < stop else b""

    def _filled(self, count: int) -> None:
        room, stream = self._room, self._stream
        assert room is not None and stream is not None  # noqa: PT018  # the two are set together
        self._data_left -= count
        self._room = room[count:] if count < len(room) else None
        stream.filled(count)
        if not self._data_left:
            self._data_is_whole()

    def _cut(self, stop: int) -> int:
        """Hand on what lies in the buffer up to `stop`; returns where the rest begins."""
        start = 0
        self._is_behind = False
        if not self._begun:
            start = self._preface(stop)
            if not self._begun:
                return start
        until = self._clock() + TURN_S
        while True:
            if self._data_left or self._skip:
                start = self._go_on(start, stop)
            if self._data_left or stop - start < frames.HEADER_BYTES:
                return start
            after = self._next_frame(start, stop)
            if after == start:
                return start
            start = after
            if start < stop and self._clock() > until:
                self._is_behind = True
                return start

    def _go_on(self, start: int, stop: int) -> int:
        """Hand on more of a payload that has begun; returns where the buffer goes on."""
        if self._data_left:
            taken = min(self._data_left, stop - start)
            self._take_data(self._buffer.view[start : start + taken])
            start += taken
        if self._skip and not self._data_left:
            taken = min(self._skip, stop - start)
            self._skip -= taken
            start += taken
        return start

    def _next_frame(self, start: int, stop: int) -> int:
        """Take the frame at `start`, or begin with it; returns where it goes on, `start` if it must wait."""
        word: int
        word, flags, stream_id = frames.unpack_header(self._buffer.memory, start)
        stream_id &= frames.STREAM_ID_BITS
        length, kind = word >> 8, word & 0xFF
        if length > self._max_frame_bytes:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
        payload = start + frames.HEADER_BYTES
        if kind == frames.DATA:
            if flags & frames.PADDED and length and stop == payload:
                return start
            return self._begin_data(stream_id, length, flags, payload)
        if kind > frames.CONTINUATION:  # of an extension, and of no interest
            self._sink.frame(kind, flags, stream_id, self._buffer.view[payload:payload])
            self._skip = length
            return payload
        if length > MAX_PAYLOAD_BYTES:
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, f"a frame of {length} bytes")
        if stop - payload < length:
            return start
        self._sink.frame(kind, flags, stream_id, self._buffer.view[payload : payload + length])
        return payload + length

    def _preface(self, stop: int) -> int:
        seen = min(stop, len(frames.PREFACE))
        if self._buffer.memory[:seen] != frames.PREFACE[:seen]:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "no HTTP/2 client preface")
        if seen < len(frames.PREFACE):
            return 0
        self._begun = True
        return seen

    def _begin_data(self, stream_id: int, length: int, flags: int, payload: int) -> int:
        """Begin a DATA frame; returns where its data begins."""
        padding = 0
        size = length
        if flags & frames.PADDED:
            if not length or self._buffer.memory[payload] >= length:
                raise ConnectionFault(frames.PROTOCOL_ERROR, "padding longer than its frame")
            padding = self._buffer.memory[payload]
            payload += 1
            size -= 1 + padding
        self._stream = self._sink.data_begins(stream_id, length, flags)
        self._ends_stream = bool(flags & frames.END_STREAM)
        self._skip = padding
        if self._stream is None:
            self._skip += size
        elif size:
            self._data_left = size
        else:
            self._data_is_whole()
        return payload

    def _take_data(self, data: memoryview) -> None:
        stream = self._stream
        assert stream is not None  # data without a stream is skipped
        if data:
            self._data_left -= len(data)
            stream.feed(data)
        if not self._data_left:
            self._data_is_whole()
        elif self._data_left >= DIRECT_BYTES:
            room = stream.room()
            if room is not None:
                self._room = room[: self._data_left]

    def _data_is_whole(self) -> None:
        stream, self._stream = self._stream, None
        if self._ends_stream and stream is not None:
            self._sink.data_ends(stream)
