"""A fake server, and both clients connected to it: each test that asks for `client` runs twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.fake_vision_server import FakeVisionService, serving

from naiad_client import Client, aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def service() -> FakeVisionService:
    """What the fake server was asked."""
    return FakeVisionService()


@pytest.fixture
def address(service: FakeVisionService) -> Iterator[str]:
    """Where the fake server listens."""
    with serving(service) as address:
        yield address


@pytest.fixture(params=[Client, aio.Client], ids=["sync", "aio"])
def kind(request: pytest.FixtureRequest) -> type[Client | aio.Client]:
    """Each of the two client classes."""
    chosen: type[Client | aio.Client] = request.param
    return chosen


@pytest.fixture
async def client(kind: type[Client | aio.Client], address: str) -> AsyncIterator[Client | aio.Client]:
    """Each of the two clients, connected."""
    client = kind(address, color="bgr", metadata=[("tenant", "blue")])
    yield client
    if isinstance(client, Client):
        client.close()
    else:
        await client.close()
