"""One client's connection: what its frames mean, and when it has to end. RFC 9113, sections 3, 5 and 6."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from naiad.services.http2 import frames, headers
from naiad.services.http2.blocks import BlockReader, check_dependency
from naiad.services.http2.faults import ConnectionFault
from naiad.services.http2.listening import peer_name
from naiad.services.http2.outbox import Outbox
from naiad.services.http2.patience import Patience
from naiad.services.http2.pings import Pings
from naiad.services.http2.receiving import FrameReader
from naiad.services.http2.streams import CONNECTION_WINDOW, MAX_LIST_BYTES, STREAM_WINDOW, Streams

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from naiad.services.http2.server import Http2Server
    from naiad.services.http2.stream import Stream

log = structlog.get_logger(__name__)

MAX_FRAME_BYTES: Final = 2**20
"""The longest frame that is taken: a picture's message is one frame, and another stream's waits for it."""

PREFACE_S: Final = 20.0
"""How long a client may take to say that it speaks HTTP/2."""

DRAIN_PING: Final = b"naiadend"
"""A ping behind the announcement of the end: its answer shows that the client has read that."""

DRAIN_S: Final = 20.0
"""After so long a client that does not answer that ping is taken to have read the announcement."""

CLOSE_S: Final = 10.0
"""How long a client may take to read the last of a closed connection."""

GOAWAY_BYTES: Final = 8
"""What a GOAWAY has before its reason."""

NO_TABLE: Final = b"\x20"
"""The word of HPACK that a header table has shrunk to nothing."""


class Connection(asyncio.BufferedProtocol):
    """Reads frames, keeps streams, and answers what HTTP/2 itself asks.

    Everything runs on the event loop's thread. What a client does wrong ends its stream or its connection,
    and nothing else.
    """

    def __init__(self, server: Http2Server) -> None:
        self._server = server
        self.loop = server.loop
        self.peer = ""
        self.outbox: Outbox
        self.streams: Streams
        self._transport: asyncio.Transport
        self._pings: Pings
        self._patience: Patience
        self._reader = FrameReader(self, server.buffer, MAX_FRAME_BYTES, server.loop.time)
        self._blocks = BlockReader()
        self._settings_seen = False
        self._is_ending = False
        self._is_closed = False
        self._preface_timer: asyncio.TimerHandle | None = None
        self._age_timer: asyncio.TimerHandle | None = None
        self._end_timer: asyncio.TimerHandle | None = None

    # The transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what this end takes; see `asyncio.BaseProtocol`."""
        assert isinstance(transport, asyncio.Transport)  # what a stream socket has
        self._transport = transport
        self.peer = peer_name(transport)
        self.outbox = Outbox(transport, self.loop)
        self._pings = Pings(self, self._server.settings)
        self._patience = Patience(self.outbox)
        self.streams = Streams(
            self._server,
            self.outbox,
            self._pings,
            self._patience,
            peer=self.peer,
            on_over=self._close_if_over,
        )
        if not self._server.add(self):
            transport.abort()
            return
        self._preface_timer = self.loop.call_later(PREFACE_S, self._preface_expired)
        age_s = self._server.connection_age_s()
        if age_s is not None:
            self._age_timer = self.loop.call_later(age_s, self._grow_old)
        self.outbox.write(
            frames.settings_frame(
                {
                    frames.MAX_CONCURRENT_STREAMS: self._server.settings.max_concurrent_streams,
                    frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                    frames.MAX_FRAME_SIZE: MAX_FRAME_BYTES,
                    frames.MAX_HEADER_LIST_SIZE: MAX_LIST_BYTES,
                }
            )
            + frames.window_update(0, CONNECTION_WINDOW - frames.DEFAULT_WINDOW)
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the connection's calls; see `asyncio.BaseProtocol`."""
        if exc is not None:
            log.debug("connection lost", peer=self.peer, reason=str(exc) or type(exc).__name__)
        self._is_closed = True
        for timer in (self._preface_timer, self._age_timer, self._end_timer):
            if timer is not None:
                timer.cancel()
        self._pings.stop()
        self.streams.drop_all()
        self._server.remove(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # asyncio's
        """Where to read into; see `asyncio.BufferedProtocol`."""
        return self._server.buffer.view if self._is_closed else self._reader.room()

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read; see `asyncio.BufferedProtocol`."""
        if self._is_closed:  # what comes until the client closes too
            return
        self._pings.heard()
        if self._take(partial(self._reader.received, nbytes)):
            self._transport.pause_reading()
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Take more of what was read, now that other connections had their turn."""
        if self._is_closed:
            return
        if self._take(self._reader.go_on):
            self.loop.call_soon(self._go_on)
        else:
            self._transport.resume_reading()

    def _take(self, reads: Callable[[], None]) -> bool:
        """Let the reader take frames, and see to what goes wrong; whether some wait for the next turn."""
        outbox = self.outbox
        outbox.hold()
        try:
            reads()
        except ConnectionFault as fault:
            self.close(fault.code, fault.reason)
        except Exception as error:
            log.exception("unexpected error", peer=self.peer, who="naiad developers", exc_info=error)
            self.close(frames.INTERNAL_ERROR, "unexpected error in the server")
        finally:
            outbox.release()
        return self._reader.is_behind and not self._is_closed

    def eof_received(self) -> bool:
        """The client sends nothing any more: nobody could cancel or give room, so that is its end."""
        return False

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self.outbox.pause()

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self.outbox.resume()

    # Its end

    def close(self, code: int = frames.NO_ERROR, reason: str = "") -> None:
        """Say why, and close; calls at work are cancelled and their clients told."""
        if self._is_closed:
            return
        self._is_closed = True
        told = reason.replace("_", " ").capitalize() or "the server ended the connection"
        self.streams.fail_all(told)
        if code != frames.NO_ERROR:
            log.debug("connection closed", peer=self.peer, code=code, reason=reason)
        if self._reader.begun:
            last = min(self.streams.last_id, self.streams.last_answered)
            self.outbox.write(frames.goaway(last, code, reason.encode()))
        self._pings.stop()
        self.outbox.flush()
        if code != frames.NO_ERROR and self.outbox.is_paused:
            self._transport.abort()  # who reads nothing is told nothing
            return
        if code == frames.NO_ERROR and self._transport.can_write_eof():
            # Were the socket closed, a window that the client still gives would take its answers from it:
            # the kernel drops what is not sent yet when something comes for a socket that nobody has.
            self.outbox.finish()
            self._transport.resume_reading()
        else:
            self._transport.close()
        self._end_at(CLOSE_S, self._transport.abort)

    def abort(self, reason: str) -> None:
        """Close without a word: the client does not answer."""
        log.debug("connection aborted", peer=self.peer, reason=reason)
        self._transport.abort()

    def drain(self, reason: str = "") -> None:
        """Take no new streams, answer those that there are, and close when all are over."""
        if self._is_ending or self._is_closed:
            return
        self._is_ending = True
        # First that the end comes, with a ping: what the client sent before it read that is still answered.
        self.outbox.write(
            frames.goaway(frames.STREAM_ID_BITS, frames.NO_ERROR, reason.encode())
            + frames.frame(frames.PING, 0, 0, DRAIN_PING)
        )
        if self._reader.begun:
            self._end_at(DRAIN_S, self._drain_read)
        else:
            self.close()

    def _end_at(self, delay_s: float, end: Callable[[], None]) -> None:
        if self._end_timer is not None:
            self._end_timer.cancel()
        self._end_timer = self.loop.call_later(delay_s, end)

    def _drain_read(self, reason: bytes = b"") -> None:
        """The client knows that the end comes: streams that it opens from now on are not answered."""
        if self.streams.last_answered != frames.STREAM_ID_BITS:
            return
        self.streams.last_answered = self.streams.last_id
        self.outbox.write(frames.goaway(self.streams.last_id, frames.NO_ERROR, reason))
        self._close_if_over()

    def _close_if_over(self) -> None:
        streams = self.streams
        if self._is_ending and streams.last_answered != frames.STREAM_ID_BITS and streams.is_idle:
            self.close()

    def _preface_expired(self) -> None:
        if not self._settings_seen:
            self._transport.abort()

    def _grow_old(self) -> None:
        self.drain("max_connection_age")
        grace_s = self._server.connection_grace_s()
        if grace_s is not None:
            self._age_timer = self.loop.call_later(grace_s, self.close, frames.NO_ERROR, "max_connection_age")

    # Frames

    def frame(self, kind: int, flags: int, stream_id: int, payload: memoryview) -> None:
        """See `FrameSink`."""
        if self._blocks.is_within and kind != frames.CONTINUATION:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a header block was not ended")
        if not self._settings_seen and kind != frames.SETTINGS:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        handler = _HANDLERS.get(kind)
        if handler is None:
            self._patience.tried()
        else:
            handler(self, flags, stream_id, payload)

    def _on_headers(self, flags: int, stream_id: int, payload: memoryview) -> None:
        block = self._blocks.headers(flags, stream_id, payload)
        if block is not None:
            self.streams.block(block)

    def _on_continuation(self, flags: int, stream_id: int, payload: memoryview) -> None:
        self._patience.tried()
        block = self._blocks.continuation(flags, stream_id, payload)
        if block is not None:
            self.streams.block(block)

    def data_begins(self, stream_id: int, length: int, flags: int) -> Stream | None:
        """See `FrameSink`."""
        if self._blocks.is_within:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a header block was not ended")
        return self.streams.data_begins(stream_id, length, flags)

    def data_ends(self, stream: Stream) -> None:
        """See `FrameSink`."""
        self.streams.data_ends(stream)

    def _on_rst_stream(self, _flags: int, stream_id: int, payload: memoryview) -> None:
        _check_size("RST_STREAM", payload, 4)
        self._patience.tried()
        self.streams.reset_by_client(stream_id)

    def _on_window_update(self, _flags: int, stream_id: int, payload: memoryview) -> None:
        _check_size("WINDOW_UPDATE", payload, 4)
        count = int.from_bytes(payload, "big") & frames.MAX_WINDOW
        self._patience.tried()
        if stream_id:
            self.streams.window_update(stream_id, count)
        elif count:
            self.outbox.connection_window(count)
        else:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "WINDOW_UPDATE of 0")

    def _on_ping(self, flags: int, stream_id: int, payload: memoryview) -> None:
        if stream_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "PING on a stream")
        _check_size("PING", payload, 8)
        self._patience.tried()
        if not flags & frames.ACK:
            self._pings.asked(is_idle=self.streams.is_empty)
            self.outbox.write(frames.frame(frames.PING, frames.ACK, 0, bytes(payload)))
        elif bytes(payload) == DRAIN_PING and self._is_ending:
            self._drain_read()

    def _on_settings(self, flags: int, stream_id: int, payload: memoryview) -> None:
        if stream_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "SETTINGS on a stream")
        if len(payload) % 6 or (flags & frames.ACK and payload):
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, f"SETTINGS of {len(payload)} bytes")
        self._patience.tried()
        if flags & frames.ACK:
            return
        if not self._settings_seen:
            self._settings_seen = True
            if self._preface_timer is not None:
                self._preface_timer.cancel()
        window = self.outbox.initial_window
        for identifier, value in frames.read_settings(payload):
            self._apply(identifier, value)
            if identifier == frames.INITIAL_WINDOW_SIZE:
                window = value
        # Once, and not for each time that it is named: it changes every open stream.
        self.streams.initial_window(window)
        self.outbox.write(frames.SETTINGS_ACK)

    def _apply(self, identifier: int, value: int) -> None:
        if identifier == frames.INITIAL_WINDOW_SIZE:
            if value > frames.MAX_WINDOW:
                raise ConnectionFault(frames.FLOW_CONTROL_ERROR, f"an initial window of {value}")
        elif identifier == frames.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME_BYTES <= value <= frames.LARGEST_FRAME_BYTES:
                raise ConnectionFault(frames.PROTOCOL_ERROR, f"a maximal frame of {value} bytes")
            self.outbox.max_frame_bytes = value
        elif identifier == frames.ENABLE_PUSH and value > 1:
            raise ConnectionFault(frames.PROTOCOL_ERROR, f"ENABLE_PUSH of {value}")
        elif identifier == frames.HEADER_TABLE_SIZE and value < headers.TABLE_BYTES:
            # No block of ours uses the table; a client that shrank it waits for a word that we know.
            self.outbox.block_prefix = NO_TABLE

    def _on_goaway(self, _flags: int, stream_id: int, payload: memoryview) -> None:
        if stream_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < GOAWAY_BYTES:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, f"GOAWAY of {len(payload)} bytes")
        # A client that says goodbye still takes its answers, and closes the connection itself.
        log.debug("client says goodbye", peer=self.peer, reason=bytes(payload[GOAWAY_BYTES:200]))
        self._patience.tried()

    def _on_priority(self, _flags: int, stream_id: int, payload: memoryview) -> None:
        if not stream_id:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "PRIORITY on stream 0")
        _check_size("PRIORITY", payload, 5)
        check_dependency(stream_id, payload)
        self._patience.tried()

    def _on_push_promise(self, _flags: int, _stream_id: int, _payload: memoryview) -> None:
        raise ConnectionFault(frames.PROTOCOL_ERROR, "PUSH_PROMISE from a client")


def _check_size(name: str, payload: memoryview, size: int) -> None:
    if len(payload) != size:
        raise ConnectionFault(frames.FRAME_SIZE_ERROR, f"{name} is not {size} bytes")


_HANDLERS: Final[Mapping[int, Callable[[Connection, int, int, memoryview], None]]] = {
    frames.HEADERS: Connection._on_headers,  # noqa: SLF001  # its own
    frames.PRIORITY: Connection._on_priority,  # noqa: SLF001
    frames.RST_STREAM: Connection._on_rst_stream,  # noqa: SLF001
    frames.SETTINGS: Connection._on_settings,  # noqa: SLF001
    frames.PUSH_PROMISE: Connection._on_push_promise,  # noqa: SLF001
    frames.PING: Connection._on_ping,  # noqa: SLF001
    frames.GOAWAY: Connection._on_goaway,  # noqa: SLF001
    frames.WINDOW_UPDATE: Connection._on_window_update,  # noqa: SLF001
    frames.CONTINUATION: Connection._on_continuation,  # noqa: SLF001
}
