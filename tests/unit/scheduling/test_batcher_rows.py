"""Triton's rules for the dynamic batcher and its queue, one test a rule, on a clock that stands still.

What the batch decision alone can prove is in `test_batching`, priorities and preserved order are in
`test_scheduler_policies` and `test_policies`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.clock import FakeClock
from support.schedulers import running_scheduler
from support.sessions import GatedSession

from naiad.config.model_config import DynamicBatching, ModelConfig, QueuePolicy, TensorConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import UnavailableError
from naiad.core.tensors import InferRequest, InferResponse
from naiad.scheduling.scheduler import BatchScheduler

if TYPE_CHECKING:
    from naiad.core.tensors import Array

HOUR_US = 3_600_000_000
MINUTE_US = 60_000_000


def config(
    batching: DynamicBatching,
    *,
    dims: tuple[int, ...] = (2,),
    max_batch_size: int = 8,
    optional: bool = False,
) -> ModelConfig:
    return ModelConfig(
        name="m",
        max_batch_size=max_batch_size,
        inputs=(
            TensorConfig("INPUT0", DataType.FP32, dims),
            *((TensorConfig("EXTRA", DataType.FP32, (1,), optional=True),) if optional else ()),
        ),
        outputs=(TensorConfig("OUTPUT0", DataType.FP32, dims), TensorConfig("OUTPUT1", DataType.FP32, dims)),
        dynamic_batching=batching,
    )


def request(
    value: float = 1, *, rows: int = 1, width: int = 2, outputs: tuple[str, ...] = (), timeout_us: int = 0
) -> InferRequest:
    inputs: dict[str, Array] = {"INPUT0": np.full((rows, width), value, dtype=np.float32)}
    return InferRequest("m", None, inputs, outputs or None, batch_size=rows, timeout_us=timeout_us)


def tick(running: object, clock: FakeClock, microseconds: float) -> None:
    """Let time pass, and the timer fire."""
    assert isinstance(running, BatchScheduler)
    clock.advance_us(microseconds)
    running._on_timer()


async def sizes(*futures: asyncio.Future[InferResponse]) -> list[int]:
    return [answer.batch_size for answer in await asyncio.gather(*futures)]


async def test_growth_while_waiting_for_an_instance() -> None:
    """A preferred size that is reached while all instances run goes on growing to the next one."""
    session = GatedSession()
    async with running_scheduler(config(DynamicBatching((2, 4))), session, clock=FakeClock()) as (running, _):
        warm = running.submit(request(rows=2))
        await session.run_began()
        waiting = [running.submit(request()) for _ in range(4)]
        session.open()
        assert await sizes(warm, *waiting) == [2, 4, 4, 4, 4]
        assert waiting[0].result().batch_reason == "preferred"


async def test_no_delay_sends_what_is_queued_when_an_instance_is_free() -> None:
    session = GatedSession()
    async with running_scheduler(config(DynamicBatching()), session, clock=FakeClock()) as (running, _):
        warm = running.submit(request())
        await session.run_began()
        waiting = [running.submit(request(rows=rows)) for rows in (1, 2, 3)]
        session.open()
        assert await sizes(warm, *waiting) == [1, 6, 6, 6]
        assert waiting[0].result().batch_reason == "idle"


async def test_batch_size_counts_items_and_requests_are_never_split() -> None:
    session = GatedSession()
    async with running_scheduler(config(DynamicBatching()), session, clock=FakeClock()) as (running, _):
        warm = running.submit(request())
        await session.run_began()
        waiting = [running.submit(request(rows=rows)) for rows in (5, 5, 3, 1)]
        session.open()
        assert await sizes(warm, *waiting) == [1, 5, 8, 8, 1]


async def test_a_delay_lasts_as_long_as_that_of_the_oldest() -> None:
    session, clock = GatedSession(), FakeClock()
    delayed = config(DynamicBatching(max_queue_delay_us=HOUR_US))
    async with running_scheduler(delayed, session, clock=clock) as (running, _):
        session.open()
        waiting = [running.submit(request())]
        tick(running, clock, HOUR_US / 2)
        waiting.append(running.submit(request()))
        tick(running, clock, HOUR_US / 2 - 1)
        assert (running.queued, running.busy) == (2, 0)
        tick(running, clock, 1)
        assert running.queued == 0
        assert await sizes(*waiting) == [2, 2]
        assert waiting[0].result().batch_reason == "delay"


@pytest.mark.parametrize(
    ("last", "took", "reason"),
    [
        (request(rows=5), 2, "preferred"),  # 3 + 5: the largest and only preferred size
        (request(rows=6), 1, "misfit"),  # does not fit
        (request(width=3), 1, "misfit"),  # of another shape
    ],
)
async def test_a_delay_ends_with_a_preferred_size_or_a_misfit(
    last: InferRequest, took: int, reason: str
) -> None:
    session = GatedSession()
    delayed = config(DynamicBatching(max_queue_delay_us=HOUR_US), dims=(-1,))
    async with running_scheduler(delayed, session, clock=FakeClock()) as (running, _):
        session.open()
        first = running.submit(request(rows=3))
        assert running.busy == 0
        running.submit(last)
        assert running.queued == 2 - took
        assert (await first).batch_reason == reason
        await running.close()


async def test_a_delay_ends_with_a_request_timeout_that_lets_a_batch_form() -> None:
    """The head of another shape leaves, and what was behind it makes a preferred size."""
    session, clock = GatedSession(), FakeClock()
    batching = DynamicBatching(
        (3,),
        max_queue_delay_us=HOUR_US,
        default_queue_policy=QueuePolicy(default_timeout_us=HOUR_US, allow_timeout_override=True),
    )
    async with running_scheduler(config(batching, dims=(-1,)), session, clock=clock) as (running, _):
        warm = [running.submit(request()) for _ in range(3)]
        await session.run_began()
        head = running.submit(request(width=3, timeout_us=MINUTE_US))
        behind = [running.submit(request()) for _ in range(3)]
        tick(running, clock, MINUTE_US)
        with pytest.raises(UnavailableError, match="Request timeout expired"):
            await head
        assert running.queued == 3
        session.open()
        assert await sizes(*warm, *behind) == [3] * 6
        assert behind[0].result().batch_reason == "preferred"


async def test_optional_inputs_only_the_same_set_shares_a_batch() -> None:
    session = GatedSession()
    optional = config(DynamicBatching(), optional=True)
    async with running_scheduler(optional, session, clock=FakeClock()) as (running, _):
        warm = running.submit(request())
        await session.run_began()
        with_extra = [request() for _ in range(2)]
        for each in with_extra:
            each.inputs["EXTRA"] = np.zeros((1, 1), np.float32)
        waiting = [running.submit(each) for each in (request(), *with_extra, request())]
        session.open()
        assert await sizes(warm, *waiting) == [1, 1, 2, 2, 1]


async def test_requested_outputs_do_not_prevent_batching() -> None:
    session = GatedSession()
    async with running_scheduler(config(DynamicBatching()), session, clock=FakeClock()) as (running, _):
        warm = running.submit(request())
        await session.run_began()
        left = running.submit(request(2, outputs=("OUTPUT0",)))
        right = running.submit(request(3, outputs=("OUTPUT1",)))
        session.open()
        assert await sizes(warm, left, right) == [1, 2, 2]
        assert [list(each.result().outputs) for each in (left, right)] == [["OUTPUT0"], ["OUTPUT1"]]


async def test_a_timeout_counts_from_the_arrival_and_no_more_once_the_request_runs() -> None:
    session, clock = GatedSession(), FakeClock()
    batching = DynamicBatching(default_queue_policy=QueuePolicy(default_timeout_us=HOUR_US))
    async with running_scheduler(config(batching), session, clock=clock) as (running, statistics):
        first = running.submit(request())
        await session.run_began()
        clock.advance_us(HOUR_US / 2)
        second = running.submit(request())
        tick(running, clock, HOUR_US - 1)  # the first one has run for longer than it may wait
        assert (running.queued, second.done()) == (1, False)
        tick(running, clock, 1)
        with pytest.raises(UnavailableError, match="Request timeout expired"):
            await second
        session.open()
        assert await sizes(first) == [1]
        assert statistics.fail.count == 1


async def test_max_queue_size_counts_requests_and_not_items() -> None:
    session = GatedSession()
    batching = DynamicBatching(default_queue_policy=QueuePolicy(max_queue_size=2))
    async with running_scheduler(config(batching), session, clock=FakeClock()) as (running, _):
        first = running.submit(request())
        await session.run_began()
        waiting = [running.submit(request(rows=4)) for _ in range(2)]
        with pytest.raises(UnavailableError, match="Exceeds maximum queue size"):
            running.submit(request())
        session.open()
        assert await sizes(first, *waiting) == [1, 8, 8]


async def test_without_a_dynamic_batching_block_nothing_is_merged_delayed_or_limited() -> None:
    session = GatedSession()
    alone = ModelConfig(
        name="m",
        max_batch_size=8,
        inputs=(TensorConfig("INPUT0", DataType.FP32, (2,)),),
        outputs=(TensorConfig("OUTPUT0", DataType.FP32, (2,)),),
    )
    async with running_scheduler(alone, session, clock=FakeClock()) as (running, _):
        waiting = [running.submit(request(rows=rows)) for rows in (1, 2, 3)]
        session.open()
        assert await sizes(*waiting) == [1, 2, 3]
        assert waiting[1].result().batch_reason == "lone"
