"""One server for a module and a transport: Naiad's own, and gRPC's core, which shows that the tests are right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.http2_peer import Peer
from support.http2_served import IS_LIVE, LIVE, Served, has_own_transport, repository, served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRANSPORTS = ["naiad", "grpcio"]


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    if request.param == "naiad" and not has_own_transport():
        pytest.skip("there is no transport to choose")
    return str(request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repository(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def shared_server(folder: Path, transport: str) -> Iterator[Served]:
    with served(folder, transport).running() as running:
        yield running
    assert not running.errors()


@pytest.fixture
def running(shared_server: Served) -> Iterator[Served]:
    """The module's server; whatever a test did to it, it has logged no error and answers the next client."""
    yield shared_server
    assert not shared_server.errors()
    with Peer(shared_server.address) as peer:
        assert peer.call(LIVE, b"").messages() == [IS_LIVE]


@pytest.fixture
def peer(running: Served) -> Iterator[Peer]:
    """A client that has exchanged settings."""
    with Peer(running.address) as connected:
        yield connected.settled()
