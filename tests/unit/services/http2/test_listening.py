"""Sockets on their addresses, who is let in over TLS, and what bad clients and a lack of descriptors leave."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import re
import socket
import ssl
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import structlog
import trustme
from support.certificates import Authority, Identity

from naiad.core.errors import InvalidArgumentError, UnavailableError
from naiad.services.grpc_settings import GrpcSettings
from naiad.services.http2 import listening
from naiad.services.http2.listening import Listener, listen, peer_name
from naiad.services.tls import ContextReloader, TlsFiles

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SOON_S = 20


class Echo(asyncio.BufferedProtocol):
    """Sends back what comes, and remembers who it was."""

    def __init__(self, made: asyncio.Queue[Echo]) -> None:
        self._made = made
        self._buffer = bytearray(65_536)
        self.peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.peer = peer_name(transport)
        self._made.put_nowait(self)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self._buffer[:nbytes]))


class Served:
    """A listener of echoes."""

    def __init__(self, listener: Listener, made: asyncio.Queue[Echo]) -> None:
        self.listener = listener
        self.port = listener.port
        self.made = made

    async def next(self) -> Echo:
        return await asyncio.wait_for(self.made.get(), SOON_S)


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[Served]:
    defaults: dict[str, Any] = {"address": "127.0.0.1", "port": 0}
    made: asyncio.Queue[Echo] = asyncio.Queue()
    listener = await listen(GrpcSettings(**(defaults | settings)), lambda: Echo(made))
    try:
        yield Served(listener, made)
    finally:
        await listener.closed()
        while not made.empty():
            made.get_nowait().transport.abort()


async def echoed(text: bytes = b"hello", **where: Any) -> bytes:
    """What comes back of a text; b"" if the connection is closed instead."""
    reader, writer = await asyncio.wait_for(asyncio.open_connection(**where), SOON_S)
    try:
        writer.write(text)
        return await asyncio.wait_for(reader.read(len(text)), SOON_S)
    finally:
        writer.transport.abort()


def unix_echoed(path: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(SOON_S)
        client.connect(path)
        client.send(b"hello")
        return client.recv(5)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


async def refusal(**settings: Any) -> str:
    with pytest.raises(UnavailableError) as raised:
        async with served(**settings):
            pass
    return raised.value.message


# TCP


async def test_a_connection_reaches_a_protocol_that_knows_its_peer() -> None:
    async with served() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        own_port = writer.get_extra_info("sockname")[1]
        assert (await server.next()).peer == f"ipv4:127.0.0.1:{own_port}"
        writer.transport.abort()


async def test_small_writes_are_not_held_back() -> None:
    async with served() as server:
        await echoed(host="127.0.0.1", port=server.port)
        connected = (await server.next()).transport.get_extra_info("socket")
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@needs_ipv6
@pytest.mark.parametrize("address", ["::1", "[::1]"])
async def test_ipv6_is_listened_on_alone(address: str) -> None:
    async with served(address=address) as server:
        assert await echoed(host="::1", port=server.port) == b"hello"
        assert re.fullmatch(r"ipv6:%5B::1%5D:\d+", (await server.next()).peer)
        with pytest.raises(ConnectionRefusedError):
            await echoed(host="127.0.0.1", port=server.port)


@needs_ipv6
@pytest.mark.parametrize("address", ["0.0.0.0", "::", "[::]", ""])
async def test_a_wildcard_takes_both_families(address: str) -> None:
    """As gRPC's core, for whom 0.0.0.0 is IPv6 too; an IPv4 peer is told of as one."""
    async with served(address=address) as server:
        assert await echoed(host="127.0.0.1", port=server.port) == b"hello"
        assert (await server.next()).peer.startswith("ipv4:127.0.0.1:")
        assert await echoed(host="::1", port=server.port) == b"hello"
        assert (await server.next()).peer.startswith("ipv6:%5B::1%5D:")


@needs_ipv6
async def test_a_name_is_listened_on_at_all_its_addresses_with_one_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`both` is a name of this test's alone; an address that the machine has not is left out."""
    addresses = ["127.0.0.1", "::1", "127.0.0.1", "192.0.2.1"]

    async def resolve(host: str, port: int, **_options: Any) -> list[Any]:
        assert host == "both"
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    async with served(address="both") as server:
        monkeypatch.undo()
        assert await echoed(host="127.0.0.1", port=server.port) == b"hello"
        assert await echoed(host="::1", port=server.port) == b"hello"


async def test_localhost_is_listened_on() -> None:
    async with served(address="localhost") as server:
        assert await echoed(host="localhost", port=server.port) == b"hello"


async def test_a_taken_port_is_told_with_address_flags_and_reason() -> None:
    async with served() as server:
        said = await refusal(port=server.port)
    assert said == (
        f"cannot listen on 127.0.0.1:{server.port} (--grpc-address, --grpc-port): Address already in use"
    )


async def test_a_port_is_shared_when_both_ask_for_it_only() -> None:
    async with served(reuse_port=True) as server:
        async with served(port=server.port, reuse_port=True) as second:
            assert second.port == server.port
        assert "Address already in use" in await refusal(port=server.port)


async def test_a_port_whose_connections_are_still_closing_is_free() -> None:
    """The server closed first, so the connection waits on its side."""
    async with served() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        (await server.next()).transport.close()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    async with served(port=server.port) as again:
        assert await echoed(host="127.0.0.1", port=again.port) == b"hello"


@pytest.mark.parametrize("address", ["192.0.2.1", "no such name", "a..b", "x" * 70, "nul\0"])
async def test_an_address_that_is_none_of_this_machine_is_told(address: str) -> None:
    said = await refusal(address=address)
    assert said.startswith(f"cannot listen on {address}:0 (--grpc-address, --grpc-port): ")
    assert not said.endswith(": ")


# Unix sockets


async def test_a_unix_socket_is_listened_on_and_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "naiad.sock"
    async with served(address=f"unix:{path}") as server:
        assert server.port == 1
        assert await asyncio.to_thread(unix_echoed, str(path)) == b"hello"
        assert (await server.next()).peer == "unix:"
    assert not path.exists()


async def test_a_unix_path_may_be_a_uri_or_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(address=f"unix://{tmp_path}/a.sock"):
        assert await asyncio.to_thread(unix_echoed, f"{tmp_path}/a.sock") == b"hello"
    monkeypatch.chdir(tmp_path)
    async with served(address="unix:b.sock"):
        assert await asyncio.to_thread(unix_echoed, f"{tmp_path}/b.sock") == b"hello"
        monkeypatch.chdir("/")
    assert not (tmp_path / "b.sock").exists()


@pytest.mark.parametrize(
    ("bound_to", "peer"), [("{}/own.sock", "unix:{}/own.sock"), ("\0x{}", "unix-abstract:x{}")]
)
async def test_a_unix_client_with_a_name_is_told_by_it(tmp_path: Path, bound_to: str, peer: str) -> None:
    def connect() -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.bind(bound_to.format(tmp_path))
            client.settimeout(SOON_S)
            client.connect(str(tmp_path / "s"))
            client.send(b"hello")
            assert client.recv(5) == b"hello"

    async with served(address=f"unix:{tmp_path}/s") as server:
        await asyncio.to_thread(connect)
        assert (await server.next()).peer == peer.format(tmp_path)


async def test_an_abstract_socket_is_listened_on() -> None:
    name = f"naiad-test-{os.getpid()}"
    async with served(address=f"unix-abstract:{name}"):
        assert await asyncio.to_thread(unix_echoed, f"\0{name}") == b"hello"
        assert "Address already in use" in await refusal(address=f"unix-abstract:{name}")


async def test_a_socket_file_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "naiad.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with served(address=f"unix:{path}"):
        assert await asyncio.to_thread(unix_echoed, str(path)) == b"hello"


async def test_a_file_that_is_no_socket_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    said = await refusal(address=f"unix:{path}")
    assert said == f"cannot listen on unix:{path} (--grpc-address, --grpc-port): Address already in use"
    assert path.read_text() == "data"


async def test_a_path_that_another_server_has_taken_is_left_to_it(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/s"
    async with served(address=address) as first, served(address=address):
        first.listener.stop_accepting()
        assert await asyncio.to_thread(unix_echoed, f"{tmp_path}/s") == b"hello"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("unix:", "it names no socket"),
        ("unix-abstract:", "it names no socket"),
        ("unix:/no/such/folder/s", "No such file or directory"),
        ("unix:/" + "x" * 200, "AF_UNIX path too long"),
    ],
)
async def test_a_path_that_cannot_be_is_told(address: str, reason: str) -> None:
    assert (
        await refusal(address=address)
        == f"cannot listen on {address} (--grpc-address, --grpc-port): {reason}"
    )


# The end


async def test_who_is_connected_stays_when_nobody_more_is_let_in() -> None:
    async with served() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await server.next()
        server.listener.stop_accepting()
        server.listener.stop_accepting()
        with pytest.raises(ConnectionRefusedError):
            await echoed(host="127.0.0.1", port=server.port)
        writer.write(b"still")
        assert await reader.readexactly(5) == b"still"
        writer.transport.abort()


# TLS


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def issued(authority: Authority, tmp_path: Path) -> Identity:
    return authority.issue(tmp_path / "server")


def tls(issued: Identity, *, mutual: bool = False) -> TlsFiles:
    return TlsFiles(issued.certificate, issued.key, issued.root, mutual)


def client_context(
    trusted: Identity, *, shown: Identity | None = None, alpn: list[str] | None = None
) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(trusted.root))
    if shown is not None:
        context.load_cert_chain(shown.certificate, shown.key)
    offered = ["h2"] if alpn is None else alpn
    if offered:
        context.set_alpn_protocols(offered)
    return context


async def gets_in(server: Served, context: ssl.SSLContext | None) -> bool:
    """Whether a client's bytes come back; else its connection ends."""
    try:
        answer = await echoed(
            host="127.0.0.1",
            port=server.port,
            ssl=context,
            server_hostname=None if context is None else "localhost",
        )
    except (ssl.SSLError, ConnectionError):
        return False
    return answer == b"hello"


async def test_a_client_that_trusts_the_server_gets_in_and_no_other(
    issued: Identity, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Those turned away leave nothing in asyncio's log."""
    stranger = Authority().issue(tmp_path / "stranger")
    async with served(tls=tls(issued)) as server:
        assert await gets_in(server, client_context(issued))
        assert (await server.next()).peer.startswith("ipv4:127.0.0.1:")
        assert not await gets_in(server, client_context(stranger))
        assert not await gets_in(server, None)
        assert server.made.empty()
    assert not caplog.records


@pytest.mark.parametrize(
    ("offered", "welcome"),
    [
        (["h2"], True),
        (["http/1.1", "h2"], True),
        (["grpc-exp", "h2"], True),
        (["http/1.1"], False),
        ([], False),
    ],
)
async def test_a_client_must_offer_h2(issued: Identity, offered: list[str], welcome: bool) -> None:
    """Core's ways: h2 among others is picked; without it the connection ends, no protocol is made."""
    async with served(tls=tls(issued)) as server:
        assert await gets_in(server, client_context(issued, alpn=offered)) is welcome
        assert server.made.empty() is not welcome


@pytest.mark.parametrize(
    ("version", "ciphers", "welcome"),
    [
        (ssl.TLSVersion.TLSv1_3, None, True),
        (ssl.TLSVersion.TLSv1_2, None, True),
        (ssl.TLSVersion.TLSv1_2, "AES128-GCM-SHA256", False),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256", False),
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0", False),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
async def test_only_what_http2_allows_is_spoken(
    issued: Identity, version: ssl.TLSVersion, ciphers: str | None, welcome: bool
) -> None:
    context = client_context(issued)
    context.minimum_version = context.maximum_version = version
    if ciphers is not None:
        context.set_ciphers(ciphers)
    async with served(tls=tls(issued)) as server:
        assert await gets_in(server, context) is welcome


async def test_mutual_tls_wants_a_certificate_of_its_own_authority(
    issued: Identity, authority: Authority, tmp_path: Path
) -> None:
    client = authority.issue(tmp_path / "client")
    stranger = Authority().issue(tmp_path / "stranger")
    async with served(tls=tls(issued, mutual=True)) as server:
        assert await gets_in(server, client_context(issued, shown=client))
        assert not await gets_in(server, client_context(issued))
        assert not await gets_in(server, client_context(issued, shown=stranger))
    async with served(tls=tls(issued)) as server:
        assert await gets_in(server, client_context(issued))


async def test_a_root_may_be_an_authority_that_another_one_signed(issued: Identity) -> None:
    """As with gRPC's core: the client's chain is followed as far as the file, no farther."""
    top = trustme.CA()
    between = top.create_child_ca()
    leaf = between.issue_cert("localhost")
    issued.root.write_bytes(between.cert_pem.bytes())
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    leaf.configure_cert(context)
    async with served(tls=tls(issued, mutual=True)) as server:
        assert await gets_in(server, context)
        top.issue_cert("localhost").configure_cert(context)
        assert not await gets_in(server, context)


def renew(issued: Identity, by: Authority) -> None:
    fresh = by.issue(issued.certificate.parent / "fresh")
    for name in ("certificate", "key", "root"):
        getattr(fresh, name).replace(getattr(issued, name))


async def test_a_renewed_certificate_meets_new_connections_only(issued: Identity) -> None:
    before = client_context(issued)
    async with served(tls=tls(issued)) as server:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=before, server_hostname="localhost"
        )
        renew(issued, Authority())
        assert await gets_in(server, client_context(issued))
        assert not await gets_in(server, before)
        writer.write(b"still")
        assert await reader.readexactly(5) == b"still"
        writer.transport.abort()


def resumed(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[ssl.SSLSession | None, bool]:
    """A session's ticket after an echo, and whether the connection went by the ticket before."""
    with (
        socket.create_connection(("127.0.0.1", port), SOON_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost", session=session) as client,
    ):
        client.send(b"hello")
        if client.recv(5) != b"hello":
            raise ConnectionResetError
        return client.session, bool(client.session_reused)


async def test_a_client_of_a_replaced_root_gets_in_no_more_not_even_by_its_ticket(
    issued: Identity, authority: Authority, tmp_path: Path
) -> None:
    """A ticket stands for the client's certificate while the root is the same, and must die with it."""
    client = authority.issue(tmp_path / "client")
    context = client_context(issued, shown=client)
    async with served(tls=tls(issued, mutual=True)) as server:
        ticket, _ = await asyncio.to_thread(resumed, server.port, context, None)
        ticket, went_by_it = await asyncio.to_thread(resumed, server.port, context, ticket)
        assert went_by_it
        other = Authority()
        issued.root.write_bytes(other.issue(tmp_path / "other").root.read_bytes())
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.to_thread(resumed, server.port, context, ticket)
        newcomer = client_context(client, shown=other.issue(tmp_path / "newcomer"))
        assert await gets_in(server, newcomer)


async def test_a_broken_renewal_is_told_of_once_and_leaves_the_certificate_in_use(issued: Identity) -> None:
    reloader = ContextReloader(tls(issued))
    before = reloader.current()
    whole = issued.certificate.read_bytes()
    issued.certificate.write_bytes(whole[:40])
    with structlog.testing.capture_logs() as logs:
        assert reloader.current() is before
        assert reloader.current() is before
    assert [entry["event"] for entry in logs] == ["certificate not renewed"]
    issued.certificate.write_bytes(whole)
    assert reloader.current() is not before


async def test_wrong_files_are_told_before_anything_listens(issued: Identity) -> None:
    files = tls(issued)
    issued.key.write_bytes(b"no key")
    with pytest.raises(InvalidArgumentError, match=f"--grpc-server-key={re.escape(str(issued.key))}"):
        await listen(GrpcSettings(address="127.0.0.1", port=0, tls=files), asyncio.BufferedProtocol)


# Bad clients, bad times


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes(100)]
)
async def test_garbage_in_place_of_a_handshake_leaves_nothing(
    issued: Identity, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tls=tls(issued)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        writer.write_eof()
        await asyncio.wait_for(reader.read(), SOON_S)
        writer.close()
        await writer.wait_closed()
        assert await gets_in(server, client_context(issued))
    assert not caplog.records


async def test_a_handshake_that_stalls_ends(issued: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "HANDSHAKE_S", 0.05)
    async with served(tls=tls(issued)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        began = time.monotonic()
        assert await asyncio.wait_for(reader.read(), SOON_S) == b""
        assert time.monotonic() - began < SOON_S / 2
        writer.close()


async def test_the_end_does_not_wait_for_handshakes(issued: Identity) -> None:
    """Nor leaves a socket of theirs open, which would be told as a warning."""
    async with served(tls=tls(issued)) as server:
        clients = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(5)]
        await asyncio.wait_for(server.listener.closed(), SOON_S)
        for reader, writer in clients:
            assert await asyncio.wait_for(reader.read(), SOON_S) == b""
            writer.close()
    gc.collect()


async def test_the_end_closes_what_was_accepted_just_now(issued: Identity) -> None:
    """A task that is cancelled before it began would leave its socket to the garbage collector, and a warning."""
    async with served(tls=tls(issued)) as server:
        with socket.create_connection(("127.0.0.1", server.port), SOON_S) as client:
            server.listener._accept(server.listener._sockets[0])
            await server.listener.closed()
            assert client.recv(1) == b""
    gc.collect()


async def test_a_lack_of_descriptors_is_told_of_once_and_gets_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop does not spin meanwhile: it tries again after a pause."""
    monkeypatch.setattr(listening, "ACCEPT_PAUSE_S", 0.02)
    tries = 0
    accept = socket.socket.accept

    def failing(listener: socket.socket) -> Any:
        nonlocal tries
        tries += 1
        if tries <= 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", failing)
    async with served() as server:
        began = time.monotonic()
        with structlog.testing.capture_logs() as logs:
            assert await echoed(host="127.0.0.1", port=server.port) == b"hello"
        assert time.monotonic() - began >= 3 * 0.02
    told = [entry for entry in logs if entry["log_level"] == "error"]
    assert [(entry["event"], entry["reason"]) for entry in told] == [
        ("no connection can be accepted", "Too many open files")
    ]


async def test_many_at_once_all_get_in() -> None:
    async with served() as server:
        answers = await asyncio.gather(*(echoed(host="127.0.0.1", port=server.port) for _ in range(200)))
        assert answers == [b"hello"] * 200
