"""Requests that their clients give up: by cancelling, by a time limit, by going away. Each must leave the queue.

The model holds a request until there are two, so that one alone waits for as long as a test wants.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from support.example_models import WAITING
from support.stock_clients import CLIENTS, PATIENCE_S, StockClient, connect, operands
from tritonclient.utils import InferenceServerException

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.stock_clients import Endpoints

SHORT_S = 1.0
FAILURES = "nv_inference_request_failure"


class Waiting:
    """The model's queue and its counts."""

    def __init__(self, server: Endpoints) -> None:
        self._server = server

    async def has(self, requests: int) -> None:
        """Return once so many requests wait."""
        await asyncio.to_thread(self._server.wait_for_pending, WAITING, requests)

    async def given_up(self) -> float:
        """How many left the queue unanswered: a time limit is seen by the server's clock or told by the client's."""
        reasons = ("CANCELED", "REJECTED")
        counts = [asyncio.to_thread(self._server.metric, FAILURES, WAITING, reason=each) for each in reasons]
        return sum(await asyncio.gather(*counts))


@pytest.fixture
async def waiting(example_server: Endpoints) -> AsyncIterator[Waiting]:
    """The model, whose queue is empty; after the test just one request has been given up, and two pair as ever."""
    model = Waiting(example_server)
    await model.has(0)
    before = await model.given_up()
    yield model
    await model.has(0)
    assert await model.given_up() == before + 1
    async with connect("grpc.aio", example_server) as client:
        pair = await asyncio.gather(*(client.infer(WAITING, operands(value)) for value in (1, 2)))
    for value, result in zip((1, 2), pair, strict=True):
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), operands()["INPUT0"] + value)


@pytest.fixture
def answers() -> Queue[tuple[Any, Any]]:
    """What callbacks were given: a result and an error."""
    return Queue()


@pytest.fixture
async def client(example_server: Endpoints) -> AsyncIterator[StockClient]:
    async with connect("grpc", example_server) as connected:
        yield connected


def put_into(answers: Queue[tuple[Any, Any]]) -> Any:
    return lambda result, error: answers.put((result, error))


async def test_a_call_is_cancelled(
    client: StockClient, waiting: Waiting, answers: Queue[tuple[Any, Any]]
) -> None:
    call = client.client.async_infer(WAITING, client.inputs(operands()), put_into(answers))
    await waiting.has(1)
    call.cancel()
    result, error = answers.get(timeout=PATIENCE_S)
    assert result is None
    assert (error.status(), error.message()) == (
        "StatusCode.CANCELLED",
        "Locally cancelled by application!",
    )


async def test_a_call_that_is_answered_is_cancelled_too_late(
    client: StockClient, answers: Queue[tuple[Any, Any]]
) -> None:
    call = client.client.async_infer("simple", client.inputs(operands()), put_into(answers))
    result, error = answers.get(timeout=PATIENCE_S)
    call.cancel()
    assert error is None
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), operands()["INPUT0"] + 1)
    assert answers.empty()


async def test_a_stream_is_cancelled(
    client: StockClient, waiting: Waiting, answers: Queue[tuple[Any, Any]]
) -> None:
    client.client.start_stream(put_into(answers))
    client.client.async_stream_infer(WAITING, client.inputs(operands()))
    await waiting.has(1)
    client.client.stop_stream(cancel_requests=True)
    result, error = answers.get(timeout=PATIENCE_S)
    assert result is None
    assert error.status() == "StatusCode.CANCELLED"
    assert answers.empty()


@pytest.mark.parametrize("kind", ["grpc.aio", "http.aio"])
async def test_a_task_is_cancelled(kind: str, example_server: Endpoints, waiting: Waiting) -> None:
    """Over HTTP that closes the connection, which is all that a server can see of it."""
    async with connect(kind, example_server) as connected:
        task = asyncio.create_task(connected.infer(WAITING, operands()))
        await waiting.has(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await waiting.has(0)
        result = await connected.infer("simple", operands())
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), operands()["INPUT0"] + 1)


async def test_a_stream_of_asyncio_is_cancelled(example_server: Endpoints, waiting: Waiting) -> None:
    async with connect("grpc.aio", example_server) as connected:

        async def requests() -> AsyncIterator[dict[str, Any]]:
            yield {"model_name": WAITING, "inputs": connected.inputs(operands())}

        stream = connected.client.stream_infer(requests())
        reading = asyncio.ensure_future(anext(stream))
        await waiting.has(1)
        assert stream.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading


@pytest.mark.parametrize("kind", ["grpc", "grpc.aio"])
async def test_a_call_over_its_time_limit(kind: str, example_server: Endpoints, waiting: Waiting) -> None:
    async with connect(kind, example_server) as connected:
        with pytest.raises(InferenceServerException) as raised:
            await connected.infer(WAITING, operands(), client_timeout=SHORT_S)
    assert raised.value.message() == "Deadline Exceeded"
    assert raised.value.status() == "StatusCode.DEADLINE_EXCEEDED"


async def test_a_callback_over_its_time_limit(
    client: StockClient, waiting: Waiting, answers: Queue[tuple[Any, Any]]
) -> None:
    client.client.async_infer(WAITING, client.inputs(operands()), put_into(answers), client_timeout=SHORT_S)
    result, error = answers.get(timeout=PATIENCE_S)
    assert result is None
    assert (error.status(), error.message()) == ("StatusCode.DEADLINE_EXCEEDED", "Deadline Exceeded")


async def test_a_stream_over_its_time_limit(
    client: StockClient, waiting: Waiting, answers: Queue[tuple[Any, Any]]
) -> None:
    client.client.start_stream(put_into(answers), stream_timeout=SHORT_S)
    client.client.async_stream_infer(WAITING, client.inputs(operands()))
    result, error = answers.get(timeout=PATIENCE_S)
    assert result is None
    assert error.status() == "StatusCode.DEADLINE_EXCEEDED"
    client.client.stop_stream()


async def test_an_asyncio_stream_over_its_time_limit(example_server: Endpoints, waiting: Waiting) -> None:
    async with connect("grpc.aio", example_server) as connected:

        async def requests() -> AsyncIterator[dict[str, Any]]:
            yield {"model_name": WAITING, "inputs": connected.inputs(operands())}

        with pytest.raises(grpc.RpcError) as raised:
            await anext(connected.client.stream_infer(requests(), stream_timeout=SHORT_S))
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_an_http_client_that_waits_no_longer(example_server: Endpoints, waiting: Waiting) -> None:
    """In a thread of its own, since its time limit is gevent's."""

    def ask() -> None:
        connected = CLIENTS["http"].InferenceServerClient(example_server.http, network_timeout=SHORT_S)
        with connected, pytest.raises(TimeoutError):
            connected.infer(WAITING, StockClient("http", connected).inputs(operands()))

    with ThreadPoolExecutor(1) as pool:
        await asyncio.wrap_future(pool.submit(ask))


async def test_an_asyncio_http_client_that_waits_no_longer(
    example_server: Endpoints, waiting: Waiting
) -> None:
    async with connect("http.aio", example_server, conn_timeout=SHORT_S) as connected:
        with pytest.raises(TimeoutError):
            await connected.infer(WAITING, operands())


@pytest.mark.parametrize("kind", ["grpc", "grpc.aio"])
async def test_a_time_limit_that_is_long_enough_changes_nothing(kind: str, example_server: Endpoints) -> None:
    async with connect(kind, example_server) as connected:
        assert await connected.call("is_server_live", client_timeout=PATIENCE_S)
        assert await connected.json("get_model_config", "simple", client_timeout=PATIENCE_S)
        result = await connected.infer("simple", operands(), client_timeout=PATIENCE_S)
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), operands()["INPUT0"] + 1)
