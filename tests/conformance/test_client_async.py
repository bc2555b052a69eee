"""Triton's client examples: many inferences at once, by callbacks, greenlets, tasks and streams."""

from __future__ import annotations

import asyncio
from queue import Queue
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.stock_clients import PATIENCE_S, StockClient, connect, operands
from tritonclient.utils import InferenceServerException

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.stock_clients import Endpoints

COUNT = 20


def sums(value: int) -> np.ndarray:
    return operands()["INPUT0"] + value


@pytest.fixture
async def grpc(example_server: Endpoints) -> AsyncIterator[StockClient]:
    async with connect("grpc", example_server) as client:
        yield client


@pytest.fixture
def answers() -> Queue[tuple[Any, Any]]:
    """What callbacks were given: a result and an error, one of which is None."""
    return Queue()


def put_into(answers: Queue[tuple[Any, Any]]) -> Any:
    return lambda result, error: answers.put((result, error))


async def test_callbacks_of_grpc(grpc: StockClient, answers: Queue[tuple[Any, Any]]) -> None:
    for value in range(COUNT):
        inputs = grpc.inputs(operands(value))
        outputs = [grpc.output("OUTPUT0"), grpc.output("OUTPUT1")]
        grpc.client.async_infer(
            "simple", inputs, put_into(answers), outputs=outputs, request_id=str(value), client_timeout=30
        )
    found = [answers.get(timeout=PATIENCE_S) for _ in range(COUNT)]
    assert [error for _, error in found if error] == []
    by_id = {int(result.get_response().id): result.as_numpy("OUTPUT0") for result, _ in found}
    for value in range(COUNT):
        np.testing.assert_array_equal(by_id[value], sums(value))


async def test_a_callback_of_grpc_is_told_of_an_error(
    grpc: StockClient, answers: Queue[tuple[Any, Any]]
) -> None:
    grpc.client.async_infer("wrong_model_name", grpc.inputs(operands()), put_into(answers))
    result, error = answers.get(timeout=PATIENCE_S)
    assert result is None
    assert isinstance(error, InferenceServerException)
    assert error.message().startswith("Request for unknown model: 'wrong_model_name' is not found")
    assert error.status() == "StatusCode.NOT_FOUND"


async def test_greenlets_of_http(example_server: Endpoints) -> None:
    async with connect("http", example_server, concurrency=4) as http:
        handles = [
            http.client.async_infer("simple", http.inputs(operands(value)), request_id=str(value))
            for value in range(COUNT)
        ]
        for value, handle in enumerate(handles):
            result = handle.get_result(timeout=PATIENCE_S)
            assert result.get_response()["id"] == str(value)
            np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), sums(value))
        with pytest.raises(InferenceServerException, match="'wrong_model_name' is not found"):
            http.client.async_infer("wrong_model_name", http.inputs(operands())).get_result()


@pytest.mark.parametrize("kind", ["grpc.aio", "http.aio"])
async def test_tasks_of_asyncio(kind: str, example_server: Endpoints) -> None:
    async with connect(kind, example_server) as client:
        found = await asyncio.gather(*(client.infer("simple", operands(value)) for value in range(COUNT)))
    for value, result in enumerate(found):
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), sums(value))


@pytest.mark.parametrize("algorithm", [None, "gzip", "deflate"])
async def test_a_stream_answers_in_the_order_of_its_requests(
    grpc: StockClient, answers: Queue[tuple[Any, Any]], algorithm: str | None
) -> None:
    """Whatever the models of the requests; every answer says that it is its request's last."""
    models = ("simple", "batched_classifier")
    arrays = (operands(3), {"image": np.zeros((8, 3, 32, 32), np.float32)})
    grpc.client.start_stream(put_into(answers), headers={"test": "1"}, compression_algorithm=algorithm)
    for number in range(COUNT):
        inputs = grpc.inputs(arrays[number % 2])
        grpc.client.async_stream_infer(models[number % 2], inputs, request_id=str(number))
    grpc.client.stop_stream()
    found = [answers.get_nowait() for _ in range(COUNT)]
    assert answers.empty()
    assert [error for _, error in found if error] == []
    responses = [result.get_response() for result, _ in found]
    assert [response.id for response in responses] == [str(number) for number in range(COUNT)]
    assert all(response.parameters["triton_final_response"].bool_param for response in responses)
    np.testing.assert_array_equal(found[0][0].as_numpy("OUTPUT0"), sums(3))


async def test_a_stream_lives_on_after_a_request_that_fails(
    grpc: StockClient, answers: Queue[tuple[Any, Any]]
) -> None:
    grpc.client.start_stream(put_into(answers))
    for model in ("simple", "wrong_model_name", "simple"):
        grpc.client.async_stream_infer(model, grpc.inputs(operands()))
    grpc.client.stop_stream()
    found = [answers.get_nowait() for _ in range(3)]
    assert [error is None for _, error in found] == [True, False, True]
    assert "Request for unknown model: 'wrong_model_name' is not found" in found[1][1].message()


async def test_a_client_has_one_stream_at_a_time_and_may_start_another(
    grpc: StockClient, answers: Queue[tuple[Any, Any]]
) -> None:
    for _ in range(3):
        grpc.client.start_stream(put_into(answers))
        with pytest.raises(InferenceServerException, match="one already running"):
            grpc.client.start_stream(put_into(answers))
        grpc.client.async_stream_infer("simple", grpc.inputs(operands()))
        grpc.client.stop_stream()
    assert [error for _, error in (answers.get_nowait() for _ in range(3))] == [None] * 3


async def test_a_stream_of_asyncio(example_server: Endpoints) -> None:
    async with connect("grpc.aio", example_server) as client:

        async def requests() -> AsyncIterator[dict[str, Any]]:
            for value in range(COUNT):
                model = "wrong_model_name" if value == 7 else "simple"
                inputs = client.inputs(operands(value))
                yield {"model_name": model, "inputs": inputs, "request_id": str(value)}

        found = [answer async for answer in client.client.stream_infer(requests())]
    assert len(found) == COUNT
    for value, (result, error) in enumerate(found):
        if value == 7:
            assert "'wrong_model_name' is not found" in error.message()
        else:
            np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), sums(value))
