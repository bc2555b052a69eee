"""What a connection sends: written together, and no more of a message than the client has room for."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from naiad.services.http2 import frames
from naiad.services.http2.faults import ConnectionFault, StreamFault

if TYPE_CHECKING:
    import asyncio

    from naiad.services.http2.stream import Stream

WRITE_BYTES: Final = 256 * 1024
"""After so many bytes they are written, before more of a message is added."""

PREFIX_BYTES: Final = 5
"""What gRPC puts before a message: whether it is compressed, and its length."""


class Outbox:
    """The sending half of a connection: frames in the order in which they came, DATA within the windows.

    What is sent while frames are being read, or within one turn of the event loop, is written with one call
    of the system.
    """

    __slots__ = (
        "_bytes",
        "_is_finished",
        "_is_held",
        "_is_paused",
        "_is_scheduled",
        "_loop",
        "_parts",
        "_transport",
        "_unread_bytes",
        "_waiting",
        "block_prefix",
        "data_sent",
        "initial_window",
        "max_frame_bytes",
        "window",
    )

    def __init__(self, transport: asyncio.WriteTransport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self.window = frames.DEFAULT_WINDOW
        self.initial_window = frames.DEFAULT_WINDOW
        self.max_frame_bytes = frames.DEFAULT_FRAME_BYTES
        self.block_prefix = b""
        """What the next header block begins with: a client that shrank its header table must be told."""
        self.data_sent = 0
        """Frames of messages sent so far: what a client does to take them is no flood."""
        self._parts: list[bytes | memoryview] = []
        self._bytes = 0
        self._unread_bytes = 0
        self._is_finished = False
        self._is_held = False
        self._is_scheduled = False
        self._is_paused = False
        self._waiting: dict[Stream, None] = {}

    @property
    def is_paused(self) -> bool:
        """Whether the client does not take what was written."""
        return self._is_paused

    @property
    def unread_bytes(self) -> int:
        """Bytes of frames other than DATA that were added since the client stopped reading."""
        return self._unread_bytes

    def hold(self) -> None:
        """Write nothing until `release`: more is about to come."""
        self._is_held = True

    def release(self) -> None:
        """Write what came meanwhile."""
        self._is_held = False
        self.flush()

    def write(self, data: bytes | memoryview) -> None:
        """Send frames that no window limits."""
        self._parts.append(data)
        self._bytes += len(data)
        if self._is_paused:  # no window limits this, and DATA waits
            self._unread_bytes += len(data)
        if not self._is_held and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._flush_scheduled)

    def _flush_scheduled(self) -> None:
        self._is_scheduled = False
        self.flush()

    def flush(self) -> None:
        """Write what was sent so far."""
        parts = self._parts
        if not parts:
            return
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._bytes = 0
        if not (self._is_finished or self._transport.is_closing()):
            self._transport.write(data)

    def finish(self) -> None:
        """Nothing is sent any more: the client reads what was written, and the end behind it."""
        self._is_finished = True
        with contextlib.suppress(OSError):  # the client is gone already
            self._transport.write_eof()

    def headers(self, stream_id: int, block: bytes, *, ends_stream: bool = False) -> None:
        """Send a header block."""
        if self.block_prefix:
            block, self.block_prefix = self.block_prefix + block, b""
        self.write(
            frames.headers_frames(stream_id, block, ends_stream=ends_stream, max_bytes=self.max_frame_bytes)
        )

    def answer(self, stream: Stream, head: bytes, message: bytes, trailers: bytes) -> bool:
        """Send a whole answer at once if nothing hinders it; whether that was so."""
        size = PREFIX_BYTES + len(message)
        if self._bytes >= WRITE_BYTES:
            self.flush()  # the transport may ask for a pause in it
        if (
            size > self.max_frame_bytes
            or size > self.window
            or size > stream.send_window
            or self._is_paused
            or self.block_prefix
            or max(len(head), len(trailers)) > self.max_frame_bytes
        ):
            return False
        self.window -= size
        self.data_sent += 1
        header, stream_id = frames.frame_header, stream.id
        self.write(
            b"".join(
                (
                    header(len(head), frames.HEADERS, frames.END_HEADERS, stream_id),
                    head,
                    header(size, frames.DATA, 0, stream_id),
                    b"\0",
                    len(message).to_bytes(4, "big"),
                    message,
                    header(len(trailers), frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream_id),
                    trailers,
                )
            )
        )
        return True

    def pump(self, stream: Stream) -> None:
        """Send of a stream's messages what may be sent now; the rest follows when there is room."""
        while stream.backlog and self._send_frame(stream):
            pass
        self._settle(stream)

    def _send_frame(self, stream: Stream) -> bool:
        """Send one frame of DATA; whether that was possible."""
        if self._bytes >= WRITE_BYTES:
            self.flush()  # the transport may ask for a pause in it
        data = stream.backlog[0]
        size = min(len(data), self.max_frame_bytes, self.window, stream.send_window)
        if self._is_paused or size <= 0:
            return False
        self.window -= size
        stream.send_window -= size
        self.data_sent += 1
        self.write(frames.frame_header(size, frames.DATA, 0, stream.id))
        if size == len(data):
            stream.backlog.popleft()
            self.write(data)
        else:
            view = memoryview(data)  # or a client that gives room by the byte would have the rest copied
            self.write(view[:size])
            stream.backlog[0] = view[size:]
        return True

    def _settle(self, stream: Stream) -> None:
        """After frames were sent, or none could be: what the stream waits for now."""
        if not stream.backlog:
            self._waiting.pop(stream, None)
            stream.drained()
        elif stream.send_window > 0:
            self._waiting[stream] = None

    def forget(self, stream: Stream) -> None:
        """Send nothing more of a stream."""
        self._waiting.pop(stream, None)

    def stream_window(self, stream: Stream, count: int) -> None:
        """The client has room for `count` bytes more of a stream.

        Raises:
            StreamFault: more than a window can be.
        """
        stream.send_window += count
        if stream.send_window > frames.MAX_WINDOW:
            raise StreamFault(frames.FLOW_CONTROL_ERROR, "a stream's window over 2^31-1")
        if stream.backlog:
            self.pump(stream)

    def connection_window(self, count: int) -> None:
        """The client has room for `count` bytes more, of all streams together.

        Raises:
            ConnectionFault: more than a window can be.
        """
        self.window += count
        if self.window > frames.MAX_WINDOW:
            raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "the connection's window over 2^31-1")
        self._share()

    def pause(self) -> None:
        """The client does not take what was written."""
        self._is_paused = True

    def resume(self) -> None:
        """It does again."""
        self._is_paused = False
        self._unread_bytes = 0
        self._share()

    def _share(self) -> None:
        """Give the room to the streams that wait, a frame each in turn."""
        while self._waiting and self.window > 0 and not self._is_paused:
            stream = next(iter(self._waiting))
            del self._waiting[stream]
            self._send_frame(stream)
            self._settle(stream)  # which puts it behind the others if it waits on
