"""One connection: uvicorn's HTTP/1.1 protocol, with bounds on what a peer may send and how slowly."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, cast

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from naiad.services.http.json_text import dumps

if TYPE_CHECKING:
    from collections.abc import Callable

    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from naiad.services.http.settings import HttpSettings

log = structlog.get_logger(__name__)

SCOPE_KEY = "naiad.connection"
"""Under which name a request's scope holds its connection."""

MAX_HEAD_BYTES = 65_536
MAX_CHUNKS = 65_536
MAX_OVERHEAD_BYTES = 2 * 2**20
"""Bytes of a request that are not its body: its head, and each chunk's."""

MAX_PIPELINED = 100
"""Requests that may wait on one connection for the answer to an earlier one."""

LINGER_S = 2.0
"""How long a refused peer may take to read why: closing at once would take the answer from it again."""


class _Forward(logging.Handler):
    """Hands uvicorn's own words to our log: what a peer sent wrong is its affair, an error is ours."""

    def emit(self, record: logging.LogRecord) -> None:
        reason = record.getMessage().strip()
        # The application answers every peer that is there; uvicorn forgets that one which pipelined is gone.
        if record.levelno < logging.ERROR or reason == "ASGI callable returned without starting response.":
            log.debug("HTTP connection", reason=reason)
        else:
            log.error("HTTP connection", reason=reason, exc_info=record.exc_info)


def _uvicorn_log() -> logging.Logger:
    # By itself, so that neither the process's loggers nor those of another server are touched.
    logger = logging.Logger("uvicorn.error", logging.WARNING)  # noqa: LOG001  # on purpose, see above
    logger.addHandler(_Forward())
    return logger


_UVICORN_LOG = _uvicorn_log()


class _RefusedError(Exception):
    """Stops the parser within a callback; the connection has noted what to answer."""


class Connection(HttpToolsProtocol):
    """A connection of an HTTP server. A request's application finds it in its scope.

    The application sets `on_lost`, which is called once when the peer is gone, and may `abort`.
    """

    LIMIT_FLAG = " (--http-max-connections)"
    """What is told to a peer that is one too many: how to allow more."""

    def __init__(
        self, config: Config, state: ServerState, settings: HttpSettings, left: Callable[[], object]
    ) -> None:
        """Create the connection.

        Args:
            config: uvicorn's, with the application.
            state: the server's connections and tasks.
            settings: the bounds.
            left: called when the connection is closed and no more counted.
        """
        super().__init__(config, state, {})
        self.logger = _UVICORN_LOG
        self.parser = self._new_parser()
        self._head_again: bytes | None = None
        self._left = left
        self.on_lost: Callable[[], object] | None = None
        self.is_lost = False
        self._settings = settings
        self._refusal: tuple[int, str] | None = None
        self._is_refused = False
        self._timer: asyncio.TimerHandle | None = None
        self._in_head = False
        self._head_bytes = 0
        self._overhead = 0
        self._chunks = 0
        self._is_new_chunk = False

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # Clients of Triton send chunks with a Content-Length beside; the chunks count, and the application
        # closes such a connection, so that nobody's idea of its end can hide a second request in the first.
        parser.set_dangerous_leniencies(lenient_data_after_close=True, lenient_chunked_length=True)
        return parser

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as its base
        """Count the connection, and refuse it if there are too many."""
        super().connection_made(transport)
        limit = self._settings.max_connections
        if len(self.connections) > limit:
            self._refuse(
                503,
                f"{len(self.connections)} connections are open, the limit is {limit}{self.LIMIT_FLAG}",
            )
        else:
            self._wait(self._settings.keep_alive_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the application that nobody waits for its answer."""
        self._stop_waiting()
        super().connection_lost(exc)
        self._leave()
        self._left()

    def _leave(self) -> None:
        self.is_lost = True
        on_lost, self.on_lost = self.on_lost, None
        if on_lost is not None:
            on_lost()

    async def can_write(self, limit_s: float) -> bool:
        """Wait until the peer has read enough for more to be written; False if that takes over `limit_s`."""
        if self.flow.write_paused:
            try:
                await asyncio.wait_for(self.flow.drain(), limit_s)
            except TimeoutError:
                return False
        return True

    def abort(self) -> None:
        """Close at once, whatever was not yet sent."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse what came, within the bounds."""
        if self._is_refused:
            return
        self._overhead += len(data)
        self._parse(data)
        if self._is_refused or self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, f"the request's head has more than {MAX_HEAD_BYTES} bytes")
                return
        elif self._overhead > MAX_OVERHEAD_BYTES:
            self._refuse(400, f"more than {MAX_OVERHEAD_BYTES} bytes of the request are not its body")
            return
        if self._timer is None and (self._in_head or self.cycle is None or self.cycle.response_complete):
            self._wait(self._settings.stall_s)

    def _parse(self, data: bytes) -> None:
        """Feed the parser. An upgrade that a request offers is passed over, as HTTP lets a server do."""
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # The parser takes what follows such a head for another protocol's, and would leave a body
                # there, to be taken for a request. So it begins again, with a head that offers nothing.
                assert self._head_again is not None
                data = self._head_again + data[upgrade.args[0] :]
                self._head_again = None
                self.parser = self._new_parser()
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                return
            else:
                return

    def send_400_response(self, msg: str) -> None:
        """Answer what could not be parsed, with the reason that a bound has noted if it was one."""
        self._refuse(*(self._refusal or (400, msg)))

    def on_message_begin(self) -> None:
        """Begin to count a request."""
        super().on_message_begin()
        # uvicorn's scope is a TypedDict, which knows nothing of keys of our own.
        cast("dict[str, Any]", self.scope)[SCOPE_KEY] = self
        self._stop_waiting()  # from here on the head's time counts
        self._in_head = True
        self._head_bytes = self._overhead = self._chunks = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; a trailer is none, or it would pass by whoever sees to the headers before us."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Hand the request over."""
        self._in_head = False
        self._stop_waiting()
        if self.parser.get_method() == b"CONNECT":
            self._stop_parsing(405, "Method Not Allowed")
        if self.parser.should_upgrade():
            self._head_again = self._head_without_upgrade()
            return
        super().on_headers_complete()
        if len(self.pipeline) > MAX_PIPELINED:
            self._stop_parsing(400, f"more than {MAX_PIPELINED} requests wait on this connection")

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode("ascii")
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def on_message_complete(self) -> None:
        """The request has come; one that offers an upgrade has not begun."""
        if self._head_again is None:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the peer to read the last answer."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_in(self._settings.stall_s)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection on which nothing more was asked."""
        self._close()

    def on_chunk_header(self) -> None:
        """The next byte of the body is a chunk's first."""
        self._is_new_chunk = True

    def on_body(self, body: bytes) -> None:
        """Count the chunks that hold something."""
        self._overhead -= len(body)
        if self._is_new_chunk:
            self._is_new_chunk = False
            self._chunks += 1
            if self._chunks > MAX_CHUNKS:
                self._stop_parsing(
                    400,
                    f"Chunked request body exceeds maximum of {MAX_CHUNKS} non-empty chunks. "
                    "Send fewer or larger HTTP chunks.",
                )
        super().on_body(body)

    def _stop_parsing(self, status: int, message: str) -> None:
        self._refusal = (status, message)
        raise _RefusedError(message)

    def _wait(self, seconds: float) -> None:
        self._timer = self.loop.call_later(seconds, self._waited_too_long)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _waited_too_long(self) -> None:
        self._timer = None
        if self._in_head:
            self._refuse(408, f"the request's head was not complete after {self._settings.stall_s:g} seconds")
        else:
            self._close()

    def _close(self) -> None:
        """Close, also if the peer does not read what is still to be sent."""
        self.transport.close()
        self._abort_in(LINGER_S)

    def _abort_in(self, seconds: float) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _refuse(self, status: int, message: str) -> None:
        """Answer without the application, read no more, and close once the peer has had time to read it."""
        self._is_refused = True
        self._stop_waiting()
        if self.transport.is_closing():
            return
        cycle = self.cycle
        is_busy = cycle is not None and not cycle.response_complete
        if is_busy and (cycle.response_started or self.pipeline):
            self.transport.abort()  # what we wrote would pass for a part of another answer
            return
        if is_busy:
            cycle.disconnected = True
            cycle.message_event.set()
            self._leave()
        body = dumps({"error": message})
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: application/json\r\nconnection: close\r\n"
            + b"content-length: %d\r\n\r\n" % len(body)
            + body
        )
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()  # to throw it away: the peer may write first and read later
        self.loop.call_later(LINGER_S, self.transport.abort)
