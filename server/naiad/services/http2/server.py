"""gRPC's server on the event loop: where it listens, which methods it has, its connections, and its end."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog

from naiad.services.http2.connection import Connection
from naiad.services.http2.faults import CallFault
from naiad.services.http2.listening import Listener, listen
from naiad.services.http2.messages import ACCEPT_ENCODING, SUPPORTED, MessageBudget
from naiad.services.http2.methods import Method, Methods
from naiad.services.http2.receiving import ReceiveBuffer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from naiad.services.grpc_restrictions import Restrictions
    from naiad.services.grpc_settings import GrpcSettings
    from naiad.services.http2.headers import CallHead

log = structlog.get_logger(__name__)

NO_METHOD: Final = "Method not found!"
"""What gRPC's own server says."""

AGE_JITTER: Final = 0.1
"""Ages differ by this part, so that connections made together do not end together."""

MAX_INFLATING: Final = 2
"""Large compressed messages inflated at once: they may take all memory there is, and all threads."""

FLUSH_S: Final = 1.0
"""How long a closed connection may take to write what it was told to."""


class Http2Server:
    """Serves gRPC's handlers, as generated code registers them, to gRPC clients. Used on one event loop."""

    def __init__(self, settings: GrpcSettings, restrictions: Restrictions | None = None) -> None:
        """Create a server that listens nowhere yet; `restrictions` say which calls need a header."""
        self.settings = settings
        self.buffer = ReceiveBuffer()
        self.budget = MessageBudget(settings.max_pending_bytes)
        self.loop: asyncio.AbstractEventLoop
        self._restrictions = restrictions
        self._methods = Methods()
        self._listener: Listener | None = None
        self._connections: set[Connection] = set()
        self._is_stopping = False
        self.inflating = asyncio.Semaphore(MAX_INFLATING)
        self._empty = asyncio.Event()
        self._empty.set()

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler[Any, Any]]) -> None:
        """Answer the methods of these handlers too."""
        self._methods.add(handlers)

    async def start(self) -> int:
        """Listen; returns the port.

        Raises:
            UnavailableError: the address cannot be bound.
        """
        self.loop = asyncio.get_running_loop()
        self._listener = await listen(self.settings, lambda: Connection(self))
        return self._listener.port

    def begin_drain(self) -> None:
        """Ask the clients that there are to go elsewhere; what they have begun is answered."""
        for connection in list(self._connections):
            connection.drain()

    async def stop(self, grace_s: float | None) -> None:
        """Take no connection and no call any more; after `grace_s` seconds, cancel the calls at work."""
        self._is_stopping = True
        if self._listener is None:
            return
        self._listener.stop_accepting()
        self.begin_drain()
        if grace_s:
            await self._wait_until_empty(grace_s)
        for connection in list(self._connections):
            connection.close()
        await self._wait_until_empty(FLUSH_S)
        for connection in list(self._connections):
            connection.abort("the server has stopped")
        await self._listener.closed()

    async def _wait_until_empty(self, limit_s: float) -> None:
        try:
            await asyncio.wait_for(self._empty.wait(), limit_s)
        except TimeoutError:
            return

    # What connections ask

    def add(self, connection: Connection) -> bool:
        """Keep a connection; whether it is welcome."""
        if self._is_stopping:
            return False
        self._connections.add(connection)
        self._empty.clear()
        return True

    def remove(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def method(self, head: CallHead) -> Method | CallFault:
        """Who answers a call, or why nobody does."""
        method = self._methods.find(head.path)
        if method is None:
            return CallFault(grpc.StatusCode.UNIMPLEMENTED, NO_METHOD)
        if self._restrictions is not None:
            refusal = self._restrictions.refusal(head.path, head.metadata)
            if refusal is not None:
                return CallFault(grpc.StatusCode.UNAVAILABLE, refusal)
        if head.encoding not in SUPPORTED:
            return CallFault(
                grpc.StatusCode.UNIMPLEMENTED,
                f"Compression algorithm '{head.encoding}' is not supported",
                accept=ACCEPT_ENCODING,
            )
        return method

    def connection_age_s(self) -> float | None:
        """Seconds after which a new connection is to end; None for no limit."""
        age_ms = self.settings.max_connection_age_ms
        if not age_ms:
            return None
        return age_ms / 1e3 * random.uniform(1 - AGE_JITTER, 1 + AGE_JITTER)  # noqa: S311  # no secret

    def connection_grace_s(self) -> float | None:
        """Seconds that calls have to end in, once their connection is too old; None for no limit."""
        grace_ms = self.settings.max_connection_age_grace_ms
        return grace_ms / 1e3 if grace_ms else None
