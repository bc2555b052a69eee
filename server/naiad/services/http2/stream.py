"""A stream of HTTP/2: what the client sends of it, how much more it may send, and what it has yet to take."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from naiad.services.http2 import frames, messages
from naiad.services.http2.faults import CallFault, StreamFault

if TYPE_CHECKING:
    from naiad.services.http2.call import Call
    from naiad.services.http2.messages import MessageReader, Received
    from naiad.services.http2.streams import Streams

LARGE_BYTES: Final = 64 * 1024
"""From this size on a message is not copied behind its prefix."""


class Stream:
    """One stream of a connection. Its call is told of whole messages, of their end, and of the stream's.

    The client may send `window` bytes more than the call has taken, and the rest of a message that the call
    waits for. So a call that does not read holds its client back, with at most a message and two windows in
    memory.
    """

    __slots__ = (
        "_allowed",
        "_held",
        "_received",
        "_streams",
        "_window",
        "backlog",
        "call",
        "id",
        "is_over",
        "local_closed",
        "reader",
        "remote_closed",
        "send_window",
        "trailers",
    )

    def __init__(
        self, streams: Streams, stream_id: int, *, window: int, send_window: int, reader: MessageReader
    ) -> None:
        self._streams = streams
        self.id = stream_id
        self.call: Call | None = None
        self.reader = reader
        self.backlog: deque[bytes | memoryview] = deque()
        """What is to be sent, and waits for room."""
        self.trailers: bytes | None = None
        """The last header block, which follows the backlog."""
        self.send_window = send_window
        self.remote_closed = False
        self.local_closed = False
        self.is_over = False
        """Whether nothing that comes or goes is of interest any more."""
        self._window = window
        self._allowed = window
        self._received = 0
        self._held = 0

    # What the client sends

    def count(self, length: int) -> None:
        """A DATA frame of `length` bytes has begun.

        Raises:
            StreamFault: the client was not allowed to send so much.
        """
        self._received += length
        if self._received > self._allowed:
            raise StreamFault(frames.FLOW_CONTROL_ERROR, "more data than the stream's window")

    def feed(self, data: memoryview) -> None:
        """Take the next bytes of the client's messages."""
        if self.is_over:
            return
        try:
            whole = self.reader.feed(data)
        except CallFault as fault:
            self._streams.fail(self, fault)
            return
        for message in whole:
            self._deliver(message)
        self._credit()

    def room(self) -> memoryview | None:
        """Where the rest of a large message belongs."""
        if self.is_over:
            return None
        try:
            return self.reader.room()
        except CallFault as fault:
            self._streams.fail(self, fault)
            return None

    def filled(self, count: int) -> None:
        """So many bytes were read into `room()`."""
        if self.is_over:
            return
        try:
            message = self.reader.filled(count)
        except CallFault as fault:
            self._streams.fail(self, fault)
            return
        if message is not None:
            self._deliver(message)
        self._credit()

    def _deliver(self, message: Received) -> None:
        if self.call is not None:
            self.call.message(message)

    def hold(self, count: int) -> None:
        """A message of `count` bytes waits to be taken; negative once it was."""
        self._held += count
        if count < 0:
            if -count >= LARGE_BYTES:
                self.reader.give_back(-count)
            self._credit()

    def _credit(self) -> None:
        """Let the client send on when half of what it may send has been taken."""
        allowed = self._received - self._held + self._window
        if allowed - self._allowed >= self._window // 2 and not (self.remote_closed or self.is_over):
            self._streams.outbox.write(frames.window_update(self.id, allowed - self._allowed))
            self._allowed = allowed
            self._streams.told()

    # What it is sent

    def send_message(self, message: bytes, *, compressed: bool = False) -> None:
        """Send a message as far as there is room; `backlog` has the rest."""
        prefix = messages.prefix(len(message), compressed)
        if len(message) < LARGE_BYTES:
            self.backlog.append(prefix + message)
        else:
            self.backlog.append(prefix)
            self.backlog.append(memoryview(message))
        self._streams.outbox.pump(self)

    def send_trailers(self, block: bytes) -> None:
        """Send the last header block, behind what waits for room."""
        self.trailers = block
        if not self.backlog:
            self.drained()

    def drained(self) -> None:
        """All that was to be sent, so far, is sent."""
        if self.trailers is not None and not self.local_closed:
            self._streams.outbox.headers(self.id, self.trailers, ends_stream=True)
            self._streams.closed_here(self)
        if self.call is not None:
            self.call.drained()
