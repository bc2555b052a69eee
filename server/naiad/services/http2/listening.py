"""Where connections come in: TCP and unix sockets, TLS with ALPN and renewed certificates, peers by name."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import structlog

from naiad.core.errors import UnavailableError
from naiad.services.grpc_settings import is_unix_socket, listen_target
from naiad.services.tls import ALPN, ContextReloader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from naiad.services.grpc_settings import GrpcSettings

BACKLOG: Final = 1_024
"""Connections that wait to be accepted; the kernel may have a lower bound of its own."""

ACCEPTS_A_TURN: Final = 64
"""Connections accepted before the loop sees to what else there is."""

ACCEPT_PAUSE_S: Final = 1.0
"""How long nothing is accepted after an accept has failed, as for a lack of file descriptors."""

HANDSHAKE_S: Final = 20.0
"""A client's time for the TLS handshake, as in gRPC's core for all of a connection's beginning."""

TLS_CLOSE_S: Final = 10.0
"""A client's time to take what is left and to say goodbye, once a TLS connection is closed."""

UNIX_PORT: Final = 1
"""The port that gRPC's core gives for a socket that has none."""

_SAME_PORT_TRIES: Final = 8
_WILDCARDS: Final = ("", "0.0.0.0", "::")  # noqa: S104  # compared with, not chosen
_NOT_HERE: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_MAPPED: Final = "::ffff:"

Protocol: TypeAlias = asyncio.BufferedProtocol

log = structlog.get_logger(__name__)


async def listen(settings: GrpcSettings, protocol_factory: Callable[[], Protocol]) -> Listener:
    """Listen on the settings' address and give each connection, after its TLS handshake, a protocol.

    A name is listened on at all of its addresses, and a wildcard at IPv6 and IPv4, as gRPC's core does.

    Raises:
        InvalidArgumentError: the certificate files changed since the settings were made, and are wrong.
        UnavailableError: the address cannot be resolved or bound.
    """
    contexts = None if settings.tls is None else ContextReloader(settings.tls)
    try:
        if is_unix_socket(settings.address):
            listening = [_unix(settings.address)]
        else:
            listening = await _tcp(settings)
    except (OSError, ValueError) as error:  # ValueError: a name or a path that is none
        reason = getattr(error, "strerror", None) or error
        raise UnavailableError(
            f"cannot listen on {listen_target(settings)} (--grpc-address, --grpc-port): {reason}"
        ) from None
    return Listener(listening, protocol_factory, contexts)


class Listener:
    """Sockets that accept, and the handshakes under way; the connections are their protocols' own.

    Args:
        sockets: bound and listening; owned from here on.
        protocol_factory: called once for each connection, when it is ready.
        contexts: TLS, or None in the clear.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        protocol_factory: Callable[[], Protocol],
        contexts: ContextReloader | None,
    ) -> None:
        self.port = _port(sockets[0])
        self._loop = asyncio.get_running_loop()
        self._protocol_factory = protocol_factory
        self._contexts = contexts
        self._sockets = sockets
        self._inodes = dict(_unix_inodes(sockets))
        self._welcomes: set[asyncio.Task[None]] = set()
        self._pauses: dict[int, asyncio.TimerHandle] = {}
        self._is_short = False
        for listening in sockets:
            self._loop.add_reader(listening, self._accept, listening)

    def stop_accepting(self) -> None:
        """Close the sockets, and remove a unix socket's file; who is connected stays. Safe to call twice."""
        sockets, self._sockets = self._sockets, []
        for pause in self._pauses.values():
            pause.cancel()
        for listening in sockets:
            self._loop.remove_reader(listening)
            listening.close()
        for path, inode in self._inodes.items():
            # Another server may have taken the path meanwhile.
            with contextlib.suppress(OSError):
                if path.stat().st_ino == inode:
                    path.unlink()
        self._inodes = {}

    async def closed(self) -> None:
        """Stop accepting, end the handshakes under way, and wait for that. Safe to call twice."""
        self.stop_accepting()
        if self._welcomes:
            await asyncio.sleep(0)  # one that has not begun could not close its socket
            for welcome in self._welcomes:
                welcome.cancel()
            await asyncio.gather(*self._welcomes, return_exceptions=True)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                connected, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(listening, error)
                return
            self._is_short = False
            connected.setblocking(False)
            welcome = self._loop.create_task(self._welcome(connected))
            self._welcomes.add(welcome)
            welcome.add_done_callback(self._welcomes.discard)

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """Accept nothing for a while: the socket stays readable, and the loop would do nothing else."""
        if not self._is_short:
            self._is_short = True
            log.error("no connection can be accepted", reason=error.strerror or str(error), who="operator")
        self._loop.remove_reader(listening)
        self._pauses[listening.fileno()] = self._loop.call_later(
            ACCEPT_PAUSE_S, self._loop.add_reader, listening, self._accept, listening
        )

    async def _welcome(self, connected: socket.socket) -> None:
        try:
            if self._contexts is None:
                await self._loop.connect_accepted_socket(self._protocol_factory, connected)
            else:
                await self._loop.connect_accepted_socket(
                    lambda: _Gate(self._protocol_factory),
                    connected,
                    ssl=self._contexts.current(),
                    ssl_handshake_timeout=HANDSHAKE_S,
                    ssl_shutdown_timeout=TLS_CLOSE_S,
                )
        except OSError as error:  # the client's doing: garbage, no certificate, gone, too slow
            log.debug("connection not made", reason=str(error))


class _Gate(asyncio.Protocol):
    """Stands before the protocol until the handshake is over, and lets in who speaks HTTP/2.

    gRPC's core closes the connections of all others, too, those that offer no protocol among them.
    """

    def __init__(self, protocol_factory: Callable[[], Protocol]) -> None:
        self._protocol_factory = protocol_factory

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the connection on, or end it."""
        assert isinstance(transport, asyncio.Transport)
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() != ALPN:
            log.debug("connection not made", reason="the client offers no h2 in ALPN")
            transport.abort()
            return
        protocol = self._protocol_factory()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)


def peer_name(transport: asyncio.BaseTransport) -> str:
    """Who is at the other end, as gRPC's core writes it.

    `ipv4:127.0.0.1:5000`, `ipv6:%5B::1%5D:5000`, `unix:` or `unix:/path` if the client bound its end,
    `unix-abstract:name`; "" if it was gone before it could be asked.
    """
    peer = transport.get_extra_info("peername")
    if peer is None:
        return ""
    if isinstance(peer, bytes):
        return f"unix-abstract:{peer[1:].decode(errors='replace')}" if peer else "unix:"
    if isinstance(peer, str):
        return f"unix:{peer}"
    host, port = peer[:2]
    if host.startswith(_MAPPED):  # an IPv4 client of a socket for both
        host = host.removeprefix(_MAPPED)
    if ":" not in host:
        return f"ipv4:{host}:{port}"
    return f"ipv6:{urllib.parse.quote(f'[{host}]', safe=':')}:{port}"


async def _tcp(settings: GrpcSettings) -> list[socket.socket]:
    host = settings.address.removeprefix("[").removesuffix("]")
    if host in _WILDCARDS:
        return [_wildcard(settings.port, reuse=settings.reuse_port)]
    found = await asyncio.get_running_loop().getaddrinfo(
        host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    # An IPv6 address keeps its scope: flow and scope are the rest of the tuple.
    places = list(dict.fromkeys((family, where) for family, _, _, _, where in found))
    for _ in range(_SAME_PORT_TRIES):
        try:
            return _bind_all(places, settings.port, reuse=settings.reuse_port)
        except OSError as error:
            # The free port of the first address may be taken at the next one.
            if settings.port or len(places) == 1 or error.errno != errno.EADDRINUSE:
                raise
    return _bind_all(places, settings.port, reuse=settings.reuse_port)


def _bind_all(
    places: Sequence[tuple[socket.AddressFamily, tuple[object, ...]]], port: int, *, reuse: bool
) -> list[socket.socket]:
    """A socket at each place, all of one port; a family that this machine lacks is left out."""
    with contextlib.ExitStack() as undo:
        sockets: list[socket.socket] = []
        missing: OSError | None = None
        for family, (host, _, *rest) in places:
            chosen = _port(sockets[0]) if sockets else port
            try:
                bound = _bound(family, (host, chosen, *rest), reuse=reuse)
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
                continue
            sockets.append(undo.enter_context(bound))
        if missing is not None and not sockets:
            raise missing
        undo.pop_all()
        return sockets


def _wildcard(port: int, *, reuse: bool) -> socket.socket:
    """One socket for IPv6 and IPv4, or for IPv4 where there is no other."""
    try:
        return _bound(socket.AF_INET6, ("::", port), reuse=reuse)
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
        return _bound(socket.AF_INET, ("0.0.0.0", port), reuse=reuse)  # noqa: S104  # as asked for


def _bound(family: socket.AddressFamily, where: tuple[object, ...], *, reuse: bool) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A port whose last connections are still closing is free.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(where[0] != "::"))
        # What is accepted has it from here.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.bind(where)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def _unix(address: str) -> socket.socket:
    """A socket at `unix:PATH`, `unix:///PATH` or `unix-abstract:NAME`."""
    scheme, _, name = address.partition(":")
    if not name:
        raise ValueError("it names no socket")
    if scheme == "unix-abstract":
        name = f"\0{name}"
    else:
        name = name.removeprefix("//") if name.startswith("///") else name
        # As gRPC's core does: what a server left behind is replaced, and anything but a socket is kept.
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(Path(name).lstat().st_mode):
                Path(name).unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(name)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except (OSError, ValueError):
        listening.close()
        raise
    return listening


def _unix_inodes(sockets: list[socket.socket]) -> Iterator[tuple[Path, int]]:
    for listening in sockets:
        if listening.family == socket.AF_UNIX and isinstance(name := listening.getsockname(), str):
            # Absolute: the file is removed from wherever the process has gone to.
            path = Path(os.path.abspath(name))  # noqa: PTH100  # `resolve` would leave the link for its target
            yield path, path.stat().st_ino


def _port(listening: socket.socket) -> int:
    if listening.family == socket.AF_UNIX:
        return UNIX_PORT
    port: int = listening.getsockname()[1]
    return port
