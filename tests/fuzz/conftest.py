"""A real server in the tests' own loop, asked for one right answer after each burst."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest_asyncio
from fuzz.models import shared_memory_object, write_repository
from fuzz.wire import GrpcPeer
from support.servers import address, server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from naiad.app import NaiadServer


class Target(NamedTuple):
    """The server and a client of its gRPC port."""

    server: NaiadServer
    grpc: GrpcPeer


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def target(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Target]:
    """A server with every door open. What is sent to it in halves, it gives up soon."""
    root = write_repository(tmp_path_factory.mktemp("repository"))
    running = server(
        root,
        model_control_mode="explicit",
        load_model=("*",),
        allow_client_shm=True,
        http_stall_timeout_secs=0.1,
        http_keep_alive_secs=0.1,
    )
    with shared_memory_object() as key:
        async with running, GrpcPeer(address(running)) as peer:
            await peer.register_region(key)
            yield Target(running, peer)


@pytest_asyncio.fixture(loop_scope="package")
async def burst(target: Target) -> AsyncIterator[Target]:
    """The server before a burst, and proven well after it."""
    yield target
    await target.grpc.check()
