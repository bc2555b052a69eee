"""TLS: files are judged before anything is served; who gets in; renewed certificates without a restart."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import structlog
import tritonclient.grpc as triton
from support.certificates import Authority, Identity
from support.grpc_front import front
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from naiad.core.errors import InvalidArgumentError
from naiad.services.tls import MAX_PEM_BYTES, CertificateReloader, TlsFiles

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def issued(authority: Authority, tmp_path: Path) -> Identity:
    """The server's certificate."""
    return authority.issue(tmp_path / "server")


@pytest.fixture
def client(authority: Authority, tmp_path: Path) -> Identity:
    """A client's certificate of the same authority."""
    return authority.issue(tmp_path / "client")


@pytest.fixture
def stranger(tmp_path: Path) -> Identity:
    """A certificate of another authority."""
    return Authority().issue(tmp_path / "stranger")


def tls(issued: Identity, *, mutual: bool = False) -> TlsFiles:
    return TlsFiles(issued.certificate, issued.key, issued.root, mutual)


async def is_live(address: str, credentials: grpc.ChannelCredentials | None) -> bool:
    """Whether a client with these credentials (None: in the clear) gets an answer; else it is UNAVAILABLE."""
    # A channel of its own: else gRPC would share the connection of an earlier client.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = (
        grpc.aio.insecure_channel(address, options=options)
        if credentials is None
        else grpc.aio.secure_channel(address, credentials, options=options)
    )
    async with channel:
        try:
            answer = await service_pb2_grpc.GRPCInferenceServiceStub(channel).ServerLive(
                pb.ServerLiveRequest(), timeout=20
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False
        live: bool = answer.live
        return live


# Who gets in


async def test_a_client_that_trusts_the_server_gets_in_and_no_other(
    issued: Identity, stranger: Identity
) -> None:
    async with front(tls=tls(issued)) as address:
        assert await is_live(address, issued.trusting_credentials())
        assert not await is_live(address, stranger.trusting_credentials())
        assert not await is_live(address, None)


async def test_mutual_tls_wants_a_certificate_of_its_own_authority(
    issued: Identity, client: Identity, stranger: Identity
) -> None:
    """The client without a certificate and the one with a stranger's trust the server, and are turned away."""
    strangers_own = replace(stranger, root=issued.root)
    async with front(tls=tls(issued, mutual=True)) as address:
        assert await is_live(address, client.channel_credentials())
        assert not await is_live(address, issued.trusting_credentials())
        assert not await is_live(address, strangers_own.channel_credentials())
        assert not await is_live(address, None)


async def test_a_root_alone_asks_no_client_for_a_certificate(issued: Identity) -> None:
    """As Triton: --grpc-root-cert without --grpc-use-ssl-mutual."""
    async with front(tls=tls(issued, mutual=False)) as address:
        assert await is_live(address, issued.trusting_credentials())


async def test_stock_clients_get_in_with_their_own_options(
    issued: Identity, client: Identity, stranger: Identity
) -> None:
    def live(address: str, shown: Identity, root: Path) -> bool:
        options = {
            "root_certificates": str(root),
            "private_key": str(shown.key),
            "certificate_chain": str(shown.certificate),
        }
        with triton.InferenceServerClient(address, ssl=True, **options) as connected:
            answer: bool = connected.is_server_live()
            return answer

    async with front(tls=tls(issued, mutual=True)) as address:
        assert await asyncio.to_thread(live, address, client, issued.root)
        with pytest.raises(InferenceServerException):
            await asyncio.to_thread(live, address, stranger, issued.root)


# Renewal


def renew(issued: Identity, by: Authority) -> None:
    """Put another certificate where the server's lies, as a renewal does: written beside, moved over."""
    fresh = by.issue(issued.certificate.parent / "fresh")
    for name in ("certificate", "key", "root"):
        os.replace(getattr(fresh, name), getattr(issued, name))  # noqa: PTH105  # what it does is the point


async def test_a_renewed_certificate_is_served_without_a_restart(issued: Identity) -> None:
    """Connections that are open stay so; new ones meet the new certificate."""
    before = issued.trusting_credentials()
    async with front(tls=tls(issued)) as address, grpc.aio.secure_channel(address, before) as open_channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(open_channel)
        assert (await stub.ServerLive(pb.ServerLiveRequest())).live
        renew(issued, Authority())
        assert await is_live(address, issued.trusting_credentials())
        assert not await is_live(address, before)
        assert (await stub.ServerLive(pb.ServerLiveRequest())).live


async def test_a_renewed_root_decides_which_clients_get_in(issued: Identity, client: Identity) -> None:
    """Revoking by replacing the root works without a restart too."""
    other = Authority()
    async with front(tls=tls(issued, mutual=True)) as address:
        assert await is_live(address, client.channel_credentials())
        renew(issued, other)
        newcomer = other.issue(client.certificate.parent / "newcomer")
        assert await is_live(address, newcomer.channel_credentials())
        old = replace(client, root=issued.root)
        assert not await is_live(address, old.channel_credentials())


@pytest.mark.parametrize("broken", ["truncated", "of another key", "removed"])
async def test_a_broken_renewal_leaves_the_certificate_in_use(
    issued: Identity, stranger: Identity, broken: str
) -> None:
    """And is told of once, not at each connection; when it is mended it is taken."""
    reloader = CertificateReloader(tls(issued))
    whole = issued.certificate.read_bytes()
    if broken == "removed":
        issued.certificate.unlink()
    else:
        issued.certificate.write_bytes(
            whole[:40] if broken == "truncated" else stranger.certificate.read_bytes()
        )
    with structlog.testing.capture_logs() as logs:
        assert reloader.renewed() is None
        assert reloader.renewed() is None
    [told] = logs
    assert told["event"] == "certificate not renewed"
    assert told["who"] == "operator"
    assert str(issued.certificate) in told["reason"]
    issued.certificate.write_bytes(whole)
    assert reloader.renewed() is not None


def test_files_that_did_not_change_are_not_read_again(issued: Identity) -> None:
    reloader = CertificateReloader(tls(issued))
    assert reloader.renewed() is None
    os.utime(issued.key, ns=(1, 1))
    assert reloader.renewed() is not None
    assert reloader.renewed() is None


# What is told before anything is served


def files(issued: Identity, **changed: Any) -> TlsFiles | None:
    flags: dict[str, Any] = {
        "use_ssl": True,
        "mutual": False,
        "certificate": issued.certificate,
        "key": issued.key,
        "root": issued.root,
    }
    return TlsFiles.of(**(flags | changed))


def test_without_tls_there_are_no_files(issued: Identity) -> None:
    assert files(issued, use_ssl=False, certificate=None, key=None, root=None) is None


def test_mutual_implies_tls(issued: Identity) -> None:
    assert files(issued, use_ssl=False, mutual=True) == tls(issued, mutual=True)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"certificate": None}, "--grpc-server-cert is required by --grpc-use-ssl"),
        ({"key": None}, "--grpc-server-key is required by --grpc-use-ssl"),
        ({"root": None, "mutual": True}, "--grpc-root-cert is required by --grpc-use-ssl-mutual"),
    ],
)
def test_a_file_that_is_not_named_is_told(issued: Identity, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{said}$"):
        files(issued, **changed)


def test_a_certificate_without_tls_is_refused(issued: Identity) -> None:
    """The operator would believe that the port is encrypted."""
    with pytest.raises(InvalidArgumentError) as raised:
        files(issued, use_ssl=False)
    assert raised.value.message == f"--grpc-server-cert={issued.certificate} is given without --grpc-use-ssl"


@pytest.mark.parametrize("name", ["certificate", "key", "root"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory"),
        (b"", "no certificate in PEM|not a private key in PEM"),
        (b"not PEM at all", "no certificate in PEM|not a private key in PEM"),
        (b"\xff\x00\xfe", "no certificate in PEM|not a private key in PEM"),
        (bytes(MAX_PEM_BYTES + 1), f"larger than {MAX_PEM_BYTES} bytes"),
    ],
)
def test_a_bad_file_is_told_by_flag_and_path(
    issued: Identity, name: str, content: bytes | None, said: str
) -> None:
    path: Path = getattr(issued, name)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    flag = {"certificate": "--grpc-server-cert", "key": "--grpc-server-key", "root": "--grpc-root-cert"}[name]
    with pytest.raises(InvalidArgumentError, match=f"^{flag}={re.escape(str(path))}: ({said})"):
        files(issued)


def test_a_folder_is_no_file(issued: Identity, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="Is a directory"):
        files(issued, key=tmp_path)


def test_a_key_of_another_certificate_is_told(issued: Identity, stranger: Identity) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        files(issued, key=stranger.key)
    assert (
        raised.value.message
        == f"--grpc-server-key={stranger.key} is not the key of --grpc-server-cert={issued.certificate}"
    )


def test_a_key_with_a_password_is_refused_and_none_is_asked_for(issued: Identity) -> None:
    """A server that waited for somebody to type would hang."""
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    key = serialization.load_pem_private_key(issued.key.read_bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    issued.key.write_bytes(encrypted)
    with pytest.raises(InvalidArgumentError, match="not a private key in PEM without a password"):
        files(issued)
