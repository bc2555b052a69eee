"""The HTTP server: a port that listens in the server's event loop, and its end in order."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

from uvicorn.config import Config
from uvicorn.server import ServerState

from naiad.core.errors import UnavailableError
from naiad.services.http.application import Application
from naiad.services.http.connection import Connection

if TYPE_CHECKING:
    from naiad.services.http.service import Triton
    from naiad.services.http.settings import HttpSettings

BACKLOG = 1_024
QUIET_S = 0.1
"""How long a drained server goes on refusing before its port closes."""

FLUSH_S = 0.5
"""How long the last answers may take to be written out."""


class HttpServer:
    """Owns the port, its connections and their requests' tasks. Used on the event loop's thread.

    uvicorn's protocol is used without its server, which would take the process's signals and poll.
    """

    def __init__(self, settings: HttpSettings, triton: Triton) -> None:
        """Create the server; nothing listens yet.

        Args:
            settings: what it is told.
            triton: what answers.
        """
        self._settings = settings
        self._application = Application(triton, settings)
        self._config = Config(
            self._application,
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=settings.keep_alive_s,  # type: ignore[arg-type]  # seconds of any kind
        )
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self._unconnected = asyncio.Event()

    async def start(self) -> int:
        """Listen, and return the port.

        Raises:
            UnavailableError: the address cannot be bound.
        """
        self._config.load()
        listener = await self._bind()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(self._config, self._state, self._settings, self._left),
            sock=listener,
            backlog=BACKLOG,
        )
        port: int = listener.getsockname()[1]
        return port

    def _left(self) -> None:
        if not self._state.connections:
            self._unconnected.set()

    async def _bind(self) -> socket.socket:
        address, port = self._settings.address, self._settings.port
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            family, kind, protocol, _, where = found[0]
            return _listener(socket.socket(family, kind, protocol), where, reuse=self._settings.reuse_port)
        except OSError as error:
            raise UnavailableError(
                f"cannot listen on {address}:{port} (--http-address, --http-port): {error.strerror or error}"
            ) from None

    def begin_drain(self) -> None:
        """Refuse what comes from now on; health probes are answered 503 until the port closes."""
        self._application.begin_drain()

    async def answered(self, limit_s: float) -> bool:
        """Wait up to `limit_s` seconds for the requests at work; whether all were answered."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._application.idle.wait(), limit_s)
        answered = self._application.idle.is_set()
        if answered:
            await asyncio.sleep(min(QUIET_S, limit_s))
        return answered

    async def close(self) -> None:
        """Close the port, and cancel what is still at work. Safe to call twice."""
        server, self._server = self._server, None
        if server is None:
            return
        answered = self._application.idle.is_set()
        server.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        await self._flushed(FLUSH_S if answered else 0)

    async def _flushed(self, limit_s: float) -> None:
        """Wait for the last answers to leave, then end whatever is left, and wait for that."""
        if self._state.connections:
            self._unconnected.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._unconnected.wait(), limit_s)
        for connection in list(self._state.connections):
            connection.transport.abort()
        if self._state.tasks:
            await asyncio.sleep(0)  # an aborted connection tells its request in the loop's next turn
            await asyncio.wait(self._state.tasks)


def _listener(listener: socket.socket, where: object, *, reuse: bool) -> socket.socket:
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(where)  # type: ignore[arg-type]  # an address of the socket's own family
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
