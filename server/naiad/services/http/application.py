"""One request: what is asked, whether it may be, its reply or its error, and the sending of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from naiad.core.errors import UnavailableError
from naiad.services.http.body import BodyBudget, BodyReader
from naiad.services.http.call import Call
from naiad.services.http.connection import SCOPE_KEY
from naiad.services.http.endpoints import ENDPOINTS
from naiad.services.http.errors import MethodError, NoSuchPathError, RestrictedError
from naiad.services.http.reply import CLOSE, Reply, error_reply
from naiad.services.http.routes import route

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from naiad.services.http.connection import Connection
    from naiad.services.http.routes import Route
    from naiad.services.http.service import Triton
    from naiad.services.http.settings import HttpSettings

    Scope = dict[str, Any]
    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

PROBES = ("server_live", "server_ready")
"""What is answered, with 503, while the server drains."""

PARSERS = 2
"""Long texts that are parsed at once: each keeps the interpreter for tens of milliseconds on end, and more of
them would be no faster and leave the event loop as little."""

SEND_BYTES = 2**18
"""How much of a body is handed to the connection at once: the next piece waits for the peer to read."""


class Application:
    """The front end as an ASGI application, on connections of `connection.py`.

    `idle` is set while no request is at work that came before the drain.
    """

    def __init__(self, triton: Triton, settings: HttpSettings) -> None:
        self._triton = triton
        self._settings = settings
        self._restricted = {
            category: (restriction.key.lower().encode("ascii"), restriction)
            for category, restriction in settings.restrictions.items()
        }
        self._parsers = asyncio.Semaphore(PARSERS)
        self._budget = BodyBudget(settings.max_pending_bytes)
        self._is_draining = False
        self._readers: set[BodyReader] = set()
        self._open = 0
        self.idle = asyncio.Event()
        self.idle.set()

    def __repr__(self) -> str:
        return f"<Application open={self._open} draining={self._is_draining}>"

    def begin_drain(self) -> None:
        """Refuse what comes from now on; what is at work is answered, if the rest of it comes soon."""
        self._is_draining = True
        for reader in self._readers:
            reader.hurry()

    @property
    def _drains(self) -> bool:
        return self._is_draining or self._triton.calls.is_draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a peer that goes away ends it."""
        connection: Connection = scope[SCOPE_KEY]
        if connection.is_lost:
            return
        task = asyncio.current_task()
        assert task is not None
        connection.on_lost = task.cancel
        try:
            await self._answer(scope, receive, send, connection)
        except asyncio.CancelledError:
            if not connection.is_lost:
                raise
        finally:
            connection.on_lost = None

    async def _answer(self, scope: Scope, receive: Receive, send: Send, connection: Connection) -> None:
        draining = self._drains
        accepted = self._triton.calls.begin()
        self._began(accepted=not draining)
        try:
            try:
                reply = await self._reply(scope, receive, draining=draining)
            except Exception as error:  # noqa: BLE001  # the table decides
                asked = route(scope["raw_path"])
                model = asked.model if asked else ""
                reply = error_reply(error, method=_named(scope), model=model, peer=_peer(scope))
            if (self._drains or _has_two_lengths(scope)) and CLOSE not in reply.headers:
                reply.headers.append(CLOSE)
            await self._send(reply, send, connection)
        finally:
            self._triton.calls.end(accepted)
            self._ended(accepted=not draining)

    def _began(self, *, accepted: bool) -> None:
        if accepted:
            self._open += 1
            self.idle.clear()

    def _ended(self, *, accepted: bool) -> None:
        if accepted:
            self._open -= 1
            if not self._open:
                self.idle.set()

    async def _reply(self, scope: Scope, receive: Receive, *, draining: bool) -> Reply:
        asked = route(scope["raw_path"])
        if asked is None:
            raise NoSuchPathError("Not Found")
        # The first of each name counts, as in Triton.
        headers = dict(reversed(scope["headers"]))
        self._check_allowed(asked, headers)
        method: str = scope["method"]
        if method not in asked.methods:
            raise MethodError("Method Not Allowed", ", ".join(asked.methods))
        if draining and asked.endpoint not in PROBES:
            raise UnavailableError("HTTP server is shutting down and has stopped accepting new requests.")
        length = headers.get(b"content-length")
        chunked = b"transfer-encoding" in headers
        declared = None if chunked else int(length or 0)
        reader = BodyReader(receive, declared, self._settings.stall_s, self._budget)
        call = Call(
            triton=self._triton,
            settings=self._settings,
            route=asked,
            method=method,
            headers=headers,
            all_headers=scope["headers"],
            reader=reader,
            parsers=self._parsers,
            is_draining=draining,
        )
        self._readers.add(reader)
        try:
            return await ENDPOINTS[asked.endpoint](call)
        finally:
            self._readers.discard(reader)
            reader.release()

    def _check_allowed(self, asked: Route, headers: dict[bytes, bytes]) -> None:
        if asked.category not in self._restricted:
            return
        name, restriction = self._restricted[asked.category]
        if name not in headers or not restriction.accepts(headers[name]):
            raise RestrictedError(f"This API is restricted, expecting header '{restriction.key}'")

    async def _send(self, reply: Reply, send: Send, connection: Connection) -> None:
        size = sum(map(len, reply.parts))
        reply.headers.append((b"content-length", b"%d" % size))
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        for piece, is_last in _pieces(reply.parts, size):
            if not await connection.can_write(self._settings.stall_s):
                connection.abort()  # nobody reads the answer
                return
            await send({"type": "http.response.body", "body": piece, "more_body": not is_last})


def _named(scope: Scope) -> str:
    path: bytes = scope["raw_path"]
    return f"{scope['method']} {path.decode('latin-1')}"


def _peer(scope: Scope) -> str:
    host, port = scope["client"] or ("", 0)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _has_two_lengths(scope: Scope) -> bool:
    names = [name for name, _ in scope["headers"]]
    return b"transfer-encoding" in names and b"content-length" in names


def _pieces(parts: Sequence[bytes | memoryview], size: int) -> Iterator[tuple[bytes | memoryview, bool]]:
    """The body in pieces, and which is the last: a small one whole, else none longer than is sent at once."""
    if size <= SEND_BYTES:
        yield b"".join(parts), True
        return
    left = size
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), SEND_BYTES):
            piece = view[start : start + SEND_BYTES]
            left -= len(piece)
            yield piece, left == 0
