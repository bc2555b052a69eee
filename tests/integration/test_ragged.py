"""Ragged batches over real gRPC: requests of any length share a run, and each gets its own answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from support.ragged_models import (
    ITEM_SHAPES_CONFIG,
    RAGGED_SUM_CONFIG,
    TABLE_SIZE,
    item_shapes,
    ragged_sum,
)
from support.repositories import add_model
from support.servers import address, server
from support.triton import infer_inputs
from tritonclient.utils import InferenceServerException

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DELAYED = "dynamic_batching { max_queue_delay_microseconds: 100000 }"
ALONE = "instance_group [ { kind: KIND_CPU count: 1 } ]"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[triton.InferenceServerClient]:
    add_model(tmp_path, "ragged_sum", ragged_sum(), RAGGED_SUM_CONFIG + DELAYED + ALONE)
    add_model(tmp_path, "item_shapes", item_shapes(), ITEM_SHAPES_CONFIG + DELAYED)
    async with (
        server(tmp_path) as started,
        triton.InferenceServerClient(address(started)) as connected,
    ):
        yield connected


def values(length: int, rows: int = 1) -> np.ndarray:
    return np.arange(1, rows * length + 1, dtype=np.int32).reshape(rows, length)


async def infer(client: triton.InferenceServerClient, array: np.ndarray) -> triton.InferResult:
    return await client.infer("ragged_sum", infer_inputs(VALUES=array))


def assert_answers(result: triton.InferResult, array: np.ndarray) -> None:
    np.testing.assert_array_equal(result.as_numpy("SUM"), [[array.sum()]])
    np.testing.assert_array_equal(result.as_numpy("DOUBLED"), array * 2)


async def test_sixteen_requests_of_different_lengths_share_runs(client: triton.InferenceServerClient) -> None:
    arrays = [values(length) for length in range(1, 17)]
    results = await asyncio.gather(*(infer(client, array) for array in arrays))
    for result, array in zip(results, arrays, strict=True):
        assert_answers(result, array)
    statistics = (await client.get_inference_statistics("ragged_sum")).model_stats[0]
    assert statistics.inference_count == 16
    assert max(row.batch_size for row in statistics.batch_stats) > 1


async def test_one_bad_value_costs_its_batch_mates_nothing(client: triton.InferenceServerClient) -> None:
    """The run fails as a whole; each request runs again alone, with batch inputs of its own."""
    arrays = [values(length) for length in (3, 5, 1, 8)]
    bad = np.full((1, 4), TABLE_SIZE, np.int32)
    outcomes = await asyncio.gather(
        infer(client, arrays[0]),
        infer(client, bad),
        *(infer(client, array) for array in arrays[1:]),
        return_exceptions=True,
    )
    refused = outcomes.pop(1)
    assert isinstance(refused, InferenceServerException)
    for outcome, array in zip(outcomes, arrays, strict=True):
        assert not isinstance(outcome, BaseException)
        assert_answers(outcome, array)


async def test_requests_without_elements_have_their_place(client: triton.InferenceServerClient) -> None:
    arrays = [values(2), values(0), values(3)]
    for result, array in zip(
        await asyncio.gather(*(infer(client, array) for array in arrays)), arrays, strict=True
    ):
        assert_answers(result, array)


async def test_each_item_of_a_request_has_its_row_of_the_shapes(client: triton.InferenceServerClient) -> None:
    shapes = [(1, 4, 1), (2, 1, 2), (1, 2, 2)]
    arrays = [np.zeros(shape, np.float32) for shape in shapes]
    results = await asyncio.gather(*(client.infer("item_shapes", infer_inputs(IN=array)) for array in arrays))
    for result, shape in zip(results, shapes, strict=True):
        np.testing.assert_array_equal(result.as_numpy("SHAPE"), [shape[1:]] * shape[0])


async def test_what_the_server_makes_is_no_input_of_clients(client: triton.InferenceServerClient) -> None:
    metadata = await client.get_model_metadata("ragged_sum")
    assert [(tensor.name, list(tensor.shape)) for tensor in metadata.inputs] == [("VALUES", [-1, -1])]
    shown = (await client.get_model_config("ragged_sum")).config
    assert [list(each.target_name) for each in shown.batch_input] == [["BOUNDS"]]
    with pytest.raises(InferenceServerException, match="expected 1 inputs but got 2 inputs"):
        await client.infer(
            "ragged_sum", infer_inputs(VALUES=values(2), BOUNDS=np.array([[0, 2]], dtype=np.int32))
        )
    with pytest.raises(InferenceServerException, match="unexpected inference input 'BOUNDS'"):
        await client.infer("ragged_sum", infer_inputs(BOUNDS=np.array([[0, 2]], dtype=np.int32)))
