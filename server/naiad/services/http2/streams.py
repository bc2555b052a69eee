"""The streams of one connection: opened by header blocks, fed by data, and closed from either end.

RFC 9113, section 5.1, has the states that a stream goes through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import grpc
import structlog

from naiad.services.http2 import frames, headers
from naiad.services.http2.blocks import MAX_BLOCK_BYTES
from naiad.services.http2.call import Call
from naiad.services.http2.faults import CallFault, ConnectionFault, StreamFault
from naiad.services.http2.headers import HeaderReader, MalformedHeadError, RefusedHeadError
from naiad.services.http2.messages import MessageReader, answer_encoding
from naiad.services.http2.stream import Stream

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from naiad.services.http2.blocks import Block
    from naiad.services.http2.headers import CallHead
    from naiad.services.http2.outbox import Outbox
    from naiad.services.http2.patience import Patience
    from naiad.services.http2.pings import Pings
    from naiad.services.http2.server import Http2Server

log = structlog.get_logger(__name__)

STREAM_WINDOW: Final = 4 * 2**20
"""Bytes that a client may send on a stream before its call has taken any."""

CONNECTION_WINDOW: Final = 16 * 2**20
"""Bytes that may be on their way on a connection; they are counted as taken when they are read."""

MAX_LIST_BYTES: Final = 16 * 1024
"""The largest metadata of a call, counted as HTTP/2 does: names, values and 32 bytes each."""

MIN_EARLY: Final = 1_000
"""Streams that were answered before their client had finished, of which frames may still come.

As many as may be open are remembered, if these are more: all of them may meet their deadline at once.
"""

HTTP_OK: Final = 200
"""HTTP's status of every call of gRPC, whatever gRPC's own is."""


class Streams:
    """Keeps the streams of a connection and the calls on them; also what a call asks of its connection."""

    def __init__(
        self,
        server: Http2Server,
        outbox: Outbox,
        pings: Pings,
        patience: Patience,
        *,
        peer: str,
        on_over: Callable[[], None],
    ) -> None:
        """Create a connection without streams; `on_over` is called whenever one of them has ended."""
        self.loop: asyncio.AbstractEventLoop = server.loop
        self.inflating = server.inflating
        self.outbox = outbox
        self.peer = peer
        self.max_message_bytes = server.settings.max_message_bytes
        self.last_answered = frames.STREAM_ID_BITS
        """Streams of a higher id are not answered: their client was told so."""
        self.last_id = 0
        """The highest stream that the client has opened."""
        self._server = server
        self._pings = pings
        self._patience = patience
        self._on_over = on_over
        self._headers = HeaderReader(max_block_bytes=MAX_BLOCK_BYTES, max_list_bytes=MAX_LIST_BYTES)
        self._streams: dict[int, Stream] = {}
        self._early: dict[int, None] = {}
        self._max_early = max(MIN_EARLY, server.settings.max_concurrent_streams)
        self._at_work = 0
        self._unacknowledged = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is open, and nothing works for a call."""
        return not self._at_work

    @property
    def is_empty(self) -> bool:
        """Whether no stream is open."""
        return not self._streams

    # What the client sends

    def block(self, block: Block) -> None:
        """A header block has come: a call's head, or what follows its messages.

        Raises:
            ConnectionFault: the stream cannot have one, or the block cannot be decoded.
        """
        if block.stream_id <= self.last_id:
            self._on_trailers(block)
            return
        self.last_id = block.stream_id
        try:
            head = self._headers.read(block.data)
        except MalformedHeadError as error:
            log.debug("malformed call", peer=self.peer, reason=error.reason)
            self._reset_new(block, error.code)
        except RefusedHeadError as error:
            if self._is_welcome(block):
                self._refuse(block, error, error.http_status)
        else:
            if self._is_welcome(block):
                self._open(block, head)

    def _is_welcome(self, block: Block) -> bool:
        """Whether a new stream is answered; if not, it has been told that it may be tried elsewhere."""
        limit = self._server.settings.max_concurrent_streams
        if block.stream_id > self.last_answered or self._at_work >= limit:
            self._reset_new(block, frames.REFUSED_STREAM)
            return False
        return True

    def _reset_new(self, block: Block, code: int) -> None:
        self._patience.tried()
        self.outbox.write(frames.rst_stream(block.stream_id, code))
        if not block.ends_stream:
            self._remember(block.stream_id)

    def _refuse(self, block: Block, fault: CallFault, http_status: int = HTTP_OK) -> None:
        """Answer a stream with its trailers alone."""
        self._patience.tried()
        log.debug("call refused", code=fault.code.name, reason=fault.message, peer=self.peer)
        code: int = fault.code.value[0]
        if http_status == HTTP_OK:
            trailers = headers.trailers_only_block(code, fault.message, accept=fault.accept)
        else:
            trailers = headers.http_refusal_block(http_status, code, fault.message)
        self.outbox.headers(block.stream_id, trailers, ends_stream=True)
        if not block.ends_stream:
            self.outbox.write(frames.rst_stream(block.stream_id, frames.NO_ERROR))
            self._remember(block.stream_id)

    def _open(self, block: Block, head: CallHead) -> None:
        self._patience.restored()
        method = self._server.method(head)
        if isinstance(method, CallFault):
            self._refuse(block, method)
            return
        stream = Stream(
            self,
            block.stream_id,
            window=STREAM_WINDOW,
            send_window=self.outbox.initial_window,
            reader=MessageReader(self.max_message_bytes, head.encoding, self._server.budget),
        )
        self._streams[block.stream_id] = stream
        self._at_work += 1
        stream.call = call = Call(self, stream, head, method)
        call.opened()
        if block.ends_stream:
            self.data_ends(stream)

    def _on_trailers(self, block: Block) -> None:
        stream = self._streams.get(block.stream_id)
        try:
            self._headers.read_trailers(block.data)
        except MalformedHeadError as error:
            if stream is not None:
                self.reset(stream, error.code)
            return
        if stream is None:
            if block.stream_id not in self._early:
                raise ConnectionFault(
                    frames.STREAM_CLOSED, f"HEADERS on stream {block.stream_id}, which is closed"
                )
            self._patience.tried()
        elif stream.remote_closed:
            self.reset(stream, frames.STREAM_CLOSED)
        elif not block.ends_stream:
            self.reset(stream, frames.PROTOCOL_ERROR)
        else:
            self.data_ends(stream)

    def data_begins(self, stream_id: int, length: int, flags: int) -> Stream | None:
        """See `FrameSink`; who calls it has seen that DATA may come."""
        self._unacknowledged += length
        if self._unacknowledged >= CONNECTION_WINDOW // 2:
            if self._unacknowledged > CONNECTION_WINDOW:
                raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "more data than the connection's window")
            self.outbox.write(frames.window_update(0, self._unacknowledged))
            self._unacknowledged = 0
            self._pings.told()
        if length:
            self._patience.restored()
        elif not flags & frames.END_STREAM:
            self._patience.tried()
        stream = self._streams.get(stream_id)
        if stream is None:
            self._data_on_closed(stream_id)
            return None
        if stream.remote_closed:
            self.reset(stream, frames.STREAM_CLOSED)
            return None
        try:
            stream.count(length)
        except StreamFault as fault:
            self.reset(stream, fault.code)
            return None
        return stream

    def _data_on_closed(self, stream_id: int) -> None:
        if stream_id > self.last_id or not stream_id & 1:
            raise ConnectionFault(frames.PROTOCOL_ERROR, f"DATA on stream {stream_id}, which is idle")
        if stream_id not in self._early:
            raise ConnectionFault(frames.STREAM_CLOSED, f"DATA on stream {stream_id}, which is closed")

    def data_ends(self, stream: Stream) -> None:
        """See `FrameSink`."""
        if stream.is_over or stream.remote_closed:
            return
        stream.remote_closed = True
        if not stream.reader.is_between_messages:
            self.fail(stream, CallFault(grpc.StatusCode.INTERNAL, "the stream ends within a message"))
            return
        if stream.call is not None:
            stream.call.half_closed()

    def reset_by_client(self, stream_id: int) -> None:
        """The client ends a stream.

        Raises:
            ConnectionFault: it never began.
        """
        self.check_not_idle(stream_id, "RST_STREAM")
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._drop(stream)

    def window_update(self, stream_id: int, count: int) -> None:
        """The client has room for more of a stream.

        Raises:
            ConnectionFault: the stream never began.
        """
        stream = self._streams.get(stream_id)
        if stream is None:
            self.check_not_idle(stream_id, "WINDOW_UPDATE")
            return
        try:
            if not count:
                raise StreamFault(frames.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")  # noqa: TRY301  # one way out
            self.outbox.stream_window(stream, count)
        except StreamFault as fault:
            self.reset(stream, fault.code)

    def initial_window(self, size: int) -> None:
        """The client has room for `size` bytes on each stream, those that are open included.

        Raises:
            ConnectionFault: more than a window can be.
        """
        change, self.outbox.initial_window = size - self.outbox.initial_window, size
        if not change:
            return
        for stream in list(self._streams.values()):
            try:
                self.outbox.stream_window(stream, change)
            except StreamFault as fault:
                raise ConnectionFault(fault.code, fault.reason) from None

    def check_not_idle(self, stream_id: int, name: str) -> None:
        """See that a stream has begun at some time.

        Raises:
            ConnectionFault: it has not.
        """
        if stream_id > self.last_id or not stream_id & 1:
            raise ConnectionFault(frames.PROTOCOL_ERROR, f"{name} on stream {stream_id}, which is idle")

    # Their end

    def drop_all(self) -> None:
        """The connection is gone: cancel all calls."""
        for stream in list(self._streams.values()):
            self._drop(stream)

    def fail_all(self, reason: str) -> None:
        """The connection is about to end: tell the clients of all calls, and cancel these."""
        for stream in list(self._streams.values()):
            self.fail(stream, CallFault(grpc.StatusCode.UNAVAILABLE, reason))

    def fail(self, stream: Stream, fault: CallFault) -> None:
        """End a stream's call with a status, and cancel what works for it."""
        call = stream.call
        if call is not None:
            call.fail(fault.code, fault.message)

    def reset(self, stream: Stream, code: int) -> None:
        """End a stream at once."""
        self.outbox.write(frames.rst_stream(stream.id, code))
        if not stream.remote_closed:
            self._remember(stream.id)
        self._drop(stream)

    def told(self) -> None:
        """The client is sent something that it asked for."""
        self._pings.told()

    def closed_here(self, stream: Stream) -> None:
        """A stream's last frame was sent."""
        stream.local_closed = True
        self._pings.told()
        if not stream.remote_closed:
            # The client may stop sending what nobody reads.
            self.outbox.write(frames.rst_stream(stream.id, frames.NO_ERROR))
            self._remember(stream.id)
        self._release(stream)

    def _drop(self, stream: Stream) -> None:
        """Forget a stream and cancel its call."""
        stream.backlog.clear()
        self._release(stream)
        if stream.call is not None:
            stream.call.cancel()

    def _release(self, stream: Stream) -> None:
        stream.is_over = True
        self.outbox.forget(stream)
        if self._streams.pop(stream.id, None) is not None:
            self.call_over(stream)

    def call_over(self, stream: Stream) -> None:
        """A stream has closed, or the work for its call has ended; when both are so, another may come."""
        if stream.is_over and (stream.call is None or stream.call.done()):
            stream.reader.give_back()
            stream.call = None  # which knows its stream: a circle that only the collector would find
            self._at_work -= 1
            self._on_over()

    def _remember(self, stream_id: int) -> None:
        self._early[stream_id] = None
        if len(self._early) > self._max_early:
            del self._early[next(iter(self._early))]

    def encoding_for(self, head: CallHead) -> str | None:
        """What a call's answers are compressed with; None for nothing, as nearly always."""
        level = self._server.settings.compression_level
        if not level:
            return None
        encoding = answer_encoding(level, head.accepts)
        return None if encoding == "identity" else encoding
