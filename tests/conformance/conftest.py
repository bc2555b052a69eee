"""Servers for the scenarios of Triton's client examples, started once for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.example_models import examples, write_example, write_examples
from support.processes import ServerProcess
from support.stock_clients import CLIENTS, ControlServer, Endpoints, StockClient, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="session")
def example_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    """Serves every example; clients may register shared memory."""
    repository = tmp_path_factory.mktemp("examples")
    write_examples(repository)
    with ServerProcess(repository, "--allow-client-shm=true") as server:
        yield Endpoints.of(server)


@pytest.fixture(scope="session")
def control_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlServer]:
    """Has seven of Triton's eight examples and has loaded none; no shared memory."""
    repository = tmp_path_factory.mktemp("control")
    for name, example in examples().items():
        if name != "simple_identity":
            write_example(repository, name, example)
    with ServerProcess(repository, "--model-control-mode=explicit") as server:
        yield ControlServer(Endpoints.of(server), repository)


@pytest.fixture(params=CLIENTS)
async def stock(request: pytest.FixtureRequest, example_server: Endpoints) -> AsyncIterator[StockClient]:
    """Each of the four clients, on the server of the examples."""
    async with connect(request.param, example_server) as client:
        yield client
