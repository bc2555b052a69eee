"""Deadlines and queue timeouts are kept by the timer alone: every instance is busy, and the clock is the test's.

Nothing happens between the clock's step and the answer but the timer that was set before it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.clock import FakeClock
from support.schedulers import running_scheduler
from support.sequences import SequenceSession, item, sequence_config, value_of
from support.sessions import GatedSession

from naiad.config.model_config import (
    DynamicBatching,
    ModelConfig,
    QueuePolicy,
    TensorConfig,
    TimeoutAction,
)
from naiad.config.sequence_config import DirectStrategy, OldestStrategy
from naiad.core.datatypes import DataType
from naiad.core.errors import CancelledError, DeadlineExceededError, UnavailableError
from naiad.core.tensors import InferRequest
from naiad.telemetry.statistics import FailureReason

if TYPE_CHECKING:
    from naiad.core.tensors import InferResponse

MS = 1_000_000
HOUR_US = 3_600_000_000
STRATEGIES = [DirectStrategy(), OldestStrategy(preferred_batch_sizes=(1,))]
IDS = ["direct", "oldest"]


def config(policy: QueuePolicy | None = None) -> ModelConfig:
    return ModelConfig(
        name="m",
        max_batch_size=1,
        inputs=(TensorConfig("INPUT0", DataType.FP32, (2,)),),
        outputs=(TensorConfig("OUTPUT0", DataType.FP32, (2,)),),
        dynamic_batching=DynamicBatching(default_queue_policy=policy or QueuePolicy()),
    )


def request(value: float = 1, **fields: Any) -> InferRequest:
    return InferRequest("m", None, {"INPUT0": np.full((1, 2), value, np.float32)}, **fields)


async def error_of(answer: asyncio.Future[InferResponse]) -> BaseException | None:
    await asyncio.wait([answer])
    return answer.exception()


async def test_a_deadline_is_told_when_it_passes_and_not_before() -> None:
    session, clock = GatedSession(), FakeClock()
    async with running_scheduler(config(), session, clock=clock) as (running, statistics):
        first = running.submit(request())
        await session.run_began()
        near = running.submit(request(deadline_ns=clock.now + MS))
        far = running.submit(request(deadline_ns=clock.now + 2 * MS))
        clock.advance_us(1_000)
        assert isinstance(await error_of(near), DeadlineExceededError)
        assert (far.done(), running.queued) == (False, 1)
        clock.advance_us(1_000)
        assert isinstance(await error_of(far), DeadlineExceededError)
        assert not first.done()
        assert statistics.failures[FailureReason.REJECTED] == 2


async def test_a_nearer_deadline_moves_the_timer_forward() -> None:
    session, clock = GatedSession(), FakeClock()
    async with running_scheduler(config(), session, clock=clock) as (running, _):
        running.submit(request())
        await session.run_began()
        far = running.submit(request(deadline_ns=clock.now + HOUR_US * 1_000))
        near = running.submit(request(deadline_ns=clock.now + MS))
        clock.advance_us(1_000)
        assert isinstance(await error_of(near), DeadlineExceededError)
        assert not far.done()


async def test_a_queue_timeout_is_told_when_it_passes_and_not_before() -> None:
    session, clock = GatedSession(), FakeClock()
    policy = QueuePolicy(default_timeout_us=2_000, allow_timeout_override=True)
    async with running_scheduler(config(policy), session, clock=clock) as (running, statistics):
        first = running.submit(request())
        await session.run_began()
        far, near = running.submit(request()), running.submit(request(timeout_us=1_000))
        clock.advance_us(1_000)
        error = await error_of(near)
        assert isinstance(error, UnavailableError)
        assert error.message == "Request timeout expired"
        assert not far.done()
        clock.advance_us(1_000)
        assert isinstance(await error_of(far), UnavailableError)
        assert not first.done()
        assert statistics.failures[FailureReason.REJECTED] == 2


async def test_a_callers_deadline_ends_what_its_policy_has_only_moved_back() -> None:
    session, clock = GatedSession(), FakeClock()
    policy = QueuePolicy(TimeoutAction.DELAY, default_timeout_us=1_000)
    async with running_scheduler(config(policy), session, clock=clock) as (running, _):
        running.submit(request())
        await session.run_began()
        late = running.submit(request(deadline_ns=clock.now + 2 * MS))
        clock.advance_us(1_000)
        later = running.submit(request(3))
        clock.advance_us(1_000)
        assert isinstance(await error_of(late), DeadlineExceededError)
        session.open()
        await later


@pytest.mark.parametrize("strategy", STRATEGIES, ids=IDS)
async def test_a_sequences_request_that_waits_behind_its_own_is_told_its_deadline(
    strategy: DirectStrategy | OldestStrategy,
) -> None:
    session, clock = SequenceSession(), FakeClock()
    described = sequence_config(strategy, max_sequence_idle_us=HOUR_US)
    async with running_scheduler(described, session, clock=clock) as (running, _):
        first = running.submit(item(1, 1, "S"))
        await session.run_began()
        late = running.submit(item(1, 2, deadline_ns=clock.now + MS))
        later = running.submit(item(1, 3, "E"))
        clock.advance_us(1_000)
        assert isinstance(await error_of(late), DeadlineExceededError)
        assert isinstance(await error_of(later), CancelledError), "it made no sense without the one before"
        assert not first.done()
        session.open()
        assert value_of(await first) == 1


@pytest.mark.parametrize("strategy", STRATEGIES, ids=IDS)
async def test_a_sequence_whose_slots_instance_is_busy_is_told_its_deadline(
    strategy: DirectStrategy | OldestStrategy,
) -> None:
    session, clock = SequenceSession(), FakeClock()
    described = sequence_config(strategy, max_sequence_idle_us=HOUR_US)
    async with running_scheduler(described, session, clock=clock) as (running, _):
        first = running.submit(item(1, 1, "S"))
        await session.run_began()
        late = running.submit(item(2, 2, "S", deadline_ns=clock.now + MS))
        clock.advance_us(1_000)
        assert isinstance(await error_of(late), DeadlineExceededError)
        assert (first.done(), running.queued) == (False, 0)


@pytest.mark.parametrize(
    "strategy", [DirectStrategy(), OldestStrategy(max_candidate_sequences=1)], ids=["direct", "oldest"]
)
async def test_a_sequence_in_the_backlog_times_out_while_the_instance_is_busy(
    strategy: DirectStrategy | OldestStrategy,
) -> None:
    session, clock = SequenceSession(), FakeClock()
    described = sequence_config(strategy, max_batch_size=1, max_sequence_idle_us=HOUR_US)
    async with running_scheduler(described, session, clock=clock) as (running, statistics):
        first = running.submit(item(1, 1, "S"))
        await session.run_began()
        near = running.submit(item(2, 2, "S", timeout_us=1_000))
        far = running.submit(item(3, 3, "S", deadline_ns=clock.now + 2 * MS))
        clock.advance_us(1_000)
        error = await error_of(near)
        assert isinstance(error, UnavailableError)
        assert error.message == "timeout of the corresponding sequence has been expired"
        assert not far.done()
        clock.advance_us(1_000)
        assert isinstance(await error_of(far), DeadlineExceededError)
        assert not first.done()
        assert statistics.failures[FailureReason.REJECTED] == 2
