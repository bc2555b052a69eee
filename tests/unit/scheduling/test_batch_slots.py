"""A batch is assembled where its session wants it, and the rows that the session adds are counted and told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.gpu import DoublingEngine, HostDriver
from support.schedulers import running_scheduler

from naiad.config.model_config import DynamicBatching, ModelConfig, TensorConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import InferRequest
from naiad.runtime.cuda.lanes import open_lanes
from naiad.scheduling.tensors import BatchBuffer, BatchLayout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from naiad.core.tensors import Array
    from naiad.runtime.cuda.lane import Lane

CONFIG = ModelConfig(
    name="m",
    max_batch_size=8,
    inputs=(TensorConfig("INPUT0", DataType.FP32, (2,)),),
    outputs=(TensorConfig("OUTPUT0", DataType.FP32, (2,)),),
    dynamic_batching=DynamicBatching(preferred_batch_sizes=(3,), max_queue_delay_us=200_000),
    parameters={"naiad.gpu_lanes": "1", "naiad.batch_buckets": "1,4,8"},
)


def request(value: float, rows: int = 1) -> InferRequest:
    return InferRequest("m", None, {"INPUT0": np.full((rows, 2), value, np.float32)}, batch_size=rows)


def never() -> DoublingEngine:
    raise AssertionError("nothing is to be opened again")


def fail_on_four(rows: int, _graph: int) -> None:
    if rows == 4:
        raise InvalidArgumentError("no batches of four today")


@pytest.fixture
def engine() -> DoublingEngine:
    return DoublingEngine()


@pytest.fixture
def lane(engine: DoublingEngine) -> Iterator[Lane]:
    laned = open_lanes(engine, CONFIG, name="m_0", gpu=0, reopen=never, load=lambda _: HostDriver())
    yield laned.lanes[0]
    laned.close()


def host_of(lane: Lane) -> Array:
    assert lane._buffers is not None
    return lane._buffers.inputs["INPUT0"].host


def test_rows_are_written_where_the_session_copies_them_from(lane: Lane) -> None:
    """Once: no batch buffer of the scheduler's own lies between."""
    buffer = BatchBuffer(BatchLayout(CONFIG))
    placed = buffer.place([request(1), request(2, rows=2)], lane)["INPUT0"]
    assert np.shares_memory(placed, host_of(lane))
    np.testing.assert_array_equal(placed[:, 0], [1, 2, 2])
    assert buffer._arrays == {}


def test_what_the_session_has_no_place_for_has_the_schedulers(lane: Lane) -> None:
    wide = [request(1), request(2)]
    for each in wide:
        each.inputs["INPUT0"] = np.ones((1, 5), np.float32)
    placed = BatchBuffer(BatchLayout(CONFIG)).place(wide, lane)["INPUT0"]
    assert placed.shape == (2, 5)
    assert not np.shares_memory(placed, host_of(lane))


async def test_padding_is_counted_and_told_with_the_bucket(lane: Lane, engine: DoublingEngine) -> None:
    async with running_scheduler(CONFIG, lane) as (scheduler, statistics):
        answers = await asyncio.gather(*(scheduler.submit(request(value)) for value in (1, 2, 3)))
    assert [(each.batch_size, each.padding_rows, each.batch_bucket) for each in answers] == [(3, 1, 4)] * 3
    assert [float(each.outputs["OUTPUT0"][0, 0]) for each in answers] == [2, 4, 6]
    assert statistics.padding_rows == 1
    assert engine.runs == [(4, -1)]
    assert sum(row.compute_infer.count * size for size, row in statistics.batches.items()) == 3


async def test_a_batch_that_fails_runs_again_alone_at_the_smallest_bucket() -> None:
    engine = DoublingEngine(at_run=fail_on_four)
    laned = open_lanes(engine, CONFIG, name="m_0", gpu=0, reopen=never, load=lambda _: HostDriver())
    async with running_scheduler(CONFIG, laned.lanes[0]) as (scheduler, statistics):
        answers = await asyncio.gather(*(scheduler.submit(request(value)) for value in (1, 2, 3)))
    assert [(each.batch_size, each.padding_rows, each.batch_bucket) for each in answers] == [(1, 0, 1)] * 3
    assert [float(each.outputs["OUTPUT0"][0, 0]) for each in answers] == [2, 4, 6]
    assert statistics.padding_rows == 0
    laned.close()
