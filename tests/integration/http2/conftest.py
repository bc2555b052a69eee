"""One server for a module and a transport: Naiad's own, and gRPC's core, which shows that the tests are right.

What services see is tested over both always. The frames below it are tested over gRPC's core only where
`NAIAD_TEST_GRPCIO=1` asks for it: that says something of the tests, and nothing of this server.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.http2_peer import Peer
from support.http2_served import IS_LIVE, LIVE, Served, repository, served

if TYPE_CHECKING:
    from collections.abc import Iterator

TRANSPORTS = ["naiad", "grpcio"]


ALWAYS_BOTH = {"test_cancellation", "test_compression", "test_grpc_calls", "test_servicers"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave gRPC's core out where it would only be held to the protocol."""
    if os.environ.get("NAIAD_TEST_GRPCIO") == "1":
        return
    left_out = {item for item in items if _is_core_alone(item)}
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


def _is_core_alone(item: pytest.Item) -> bool:
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return (
        item.path.parent == Path(__file__).parent
        and parameters.get("transport") == "grpcio"
        and item.path.stem not in ALWAYS_BOTH
    )


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
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
