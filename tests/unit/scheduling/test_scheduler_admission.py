"""Admission on a running scheduler: what is refused at the door, what never is, and how it recovers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.clock import FakeClock
from support.schedulers import running_scheduler
from support.sequences import SequenceSession, item, sequence_config, value_of
from support.sessions import POISON, DoublingSession, GatedSession

from naiad.config.model_config import (
    DynamicBatching,
    ModelConfig,
    QueuePolicy,
    TensorConfig,
    TimeoutAction,
)
from naiad.config.sequence_config import OldestStrategy
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError, ResourceExhaustedError
from naiad.core.tensors import InferRequest
from naiad.scheduling.admission import ENOUGH
from naiad.telemetry.statistics import RefusalReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.core.tensors import Array, Tensors
    from naiad.scheduling.factory import Scheduler

MS = 1_000_000
CONFIG = ModelConfig(
    name="m",
    max_batch_size=4,
    inputs=(TensorConfig("INPUT0", DataType.FP32, (2,)),),
    outputs=(TensorConfig("OUTPUT0", DataType.FP32, (2,)),),
)


class SlowOnTheClock(GatedSession):
    """Each run takes `took_ms` on the test's clock, and no time at all."""

    def __init__(self, clock: FakeClock, took_ms: int = 100) -> None:
        super().__init__()
        self.took_ms = took_ms
        self._clock = clock

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        answer = super().run(inputs, outputs)
        self._clock.now += self.took_ms * MS
        return answer


def request(clock: FakeClock, left_ms: float | None = None, *, priority: int = 0) -> InferRequest:
    deadline_ns = None if left_ms is None else clock.now + int(left_ms * MS)
    array = np.ones((1, 2), np.float32)
    return InferRequest("m", None, {"INPUT0": array}, deadline_ns=deadline_ns, priority=priority)


async def measure(running: Scheduler, session: SlowOnTheClock, clock: FakeClock, runs: int = ENOUGH) -> None:
    for _ in range(runs):
        answer = running.submit(request(clock))
        await session.run_began()
        session.let_go()
        await answer


async def test_who_would_wait_beyond_its_deadline_is_refused_and_who_would_not_is_let_in() -> None:
    clock = FakeClock()
    session = SlowOnTheClock(clock)
    async with running_scheduler(CONFIG, session, clock=clock) as (running, statistics):
        await measure(running, session, clock)
        first = running.submit(request(clock, 1))  # idle: whatever its deadline
        await session.run_began()
        with pytest.raises(ResourceExhaustedError, match=r"wait about 100\.0 ms .* deadline is in 150\.0 ms"):
            running.submit(request(clock, 150))
        second = running.submit(request(clock, 250))
        with pytest.raises(ResourceExhaustedError, match=r"wait about 200\.0 ms") as caught:
            running.submit(request(clock, 250))
        assert caught.value.retry_after_ms == 50
        assert statistics.refusals[RefusalReason.DEADLINE] == 2
        assert statistics.fail.count == 0
        assert running.queued == 1
        session.open()
        await first
        await second


async def test_a_queue_timeout_counts_as_a_deadline_and_one_that_only_delays_does_not() -> None:
    for action in TimeoutAction:
        clock = FakeClock()
        session = SlowOnTheClock(clock)
        policy = QueuePolicy(action, default_timeout_us=10_000)
        config = replace(
            CONFIG, max_batch_size=1, dynamic_batching=DynamicBatching(default_queue_policy=policy)
        )
        async with running_scheduler(config, session, clock=clock) as (running, _):
            await measure(running, session, clock)
            running.submit(request(clock))
            await session.run_began()
            if action is TimeoutAction.REJECT:
                with pytest.raises(ResourceExhaustedError, match=r"queue timeout is 10\.0 ms"):
                    running.submit(request(clock))
            else:
                running.submit(request(clock))
            session.open()
            await running.drain()


async def test_only_what_leaves_before_a_request_counts() -> None:
    clock = FakeClock()
    session = SlowOnTheClock(clock)
    batching = DynamicBatching(priority_levels=2, default_priority_level=2)
    config = replace(CONFIG, max_batch_size=1, dynamic_batching=batching)
    async with running_scheduler(config, session, clock=clock) as (running, _):
        await measure(running, session, clock)
        running.submit(request(clock))
        await session.run_began()
        for _ in range(5):
            running.submit(request(clock, priority=2))
        with pytest.raises(ResourceExhaustedError, match=r"wait about 600\.0 ms"):
            running.submit(request(clock, 250, priority=2))
        running.submit(request(clock, 250, priority=1))
        session.open()
        await running.drain()


async def test_a_model_that_is_fast_again_is_found_out_though_deadlines_are_refused() -> None:
    """Whoever finds an idle instance runs, and each run is a measurement."""
    clock = FakeClock()
    session = SlowOnTheClock(clock, 1_000)
    async with running_scheduler(CONFIG, session, clock=clock) as (running, statistics):
        await measure(running, session, clock)
        session.took_ms = 1
        refused = 0
        for _ in range(20):
            first = running.submit(request(clock, 10))
            await session.run_began()
            try:
                second = running.submit(request(clock, 10))
            except ResourceExhaustedError:
                refused += 1
                session.let_go()
                await first
            else:
                session.let_go(2)
                await first
                await session.run_began()
                await second
        assert 5 <= refused <= 10
        assert statistics.refusals[RefusalReason.DEADLINE] == refused


async def test_without_admission_control_nobody_is_refused() -> None:
    clock = FakeClock()
    session = SlowOnTheClock(clock)
    async with running_scheduler(CONFIG, session, clock=clock, admission_control=False) as (running, _):
        await measure(running, session, clock)
        running.submit(request(clock))
        await session.run_began()
        waiting = running.submit(request(clock, 50))
        assert running.queued == 1
        waiting.cancel()


async def test_a_request_of_a_sequence_is_never_refused() -> None:
    """What its sequence has become without it would be another one."""
    clock = FakeClock()
    session = SequenceSession()
    config = sequence_config(OldestStrategy(preferred_batch_sizes=(4,)))
    async with running_scheduler(config, session, clock=clock) as (running, _):
        for number in range(ENOUGH + 1):
            answer = running.submit(item(number + 1, 1, "SE"))
            await session.run_began()
            clock.now += 100 * MS
            session.let_go()
            await answer
        first = running.submit(item(99, 1, "S"))
        await session.run_began()
        later = running.submit(item(99, 2, "E", deadline_ns=clock.now + 50 * MS))
        session.open()
        assert [value_of(await answer) for answer in (first, later)] == [1, 2]


async def test_a_failed_run_is_no_measurement() -> None:
    class Failing(DoublingSession):
        def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
            raise ResourceExhaustedError("no memory")

    clock = FakeClock()
    async with running_scheduler(CONFIG, Failing(), clock=clock) as (running, statistics):
        for _ in range(ENOUGH + 1):
            with pytest.raises(ResourceExhaustedError, match="no memory"):
                await running.submit(request(clock, 50))
        assert statistics.refusals[RefusalReason.DEADLINE] == 0


async def test_who_left_before_a_batch_is_tried_again_is_no_measurement() -> None:
    """Nothing ran for it: a batch of no items says nothing of how long an item takes."""
    clock = FakeClock()
    session = SlowOnTheClock(clock)
    batched = replace(CONFIG, dynamic_batching=DynamicBatching())
    async with running_scheduler(batched, session, clock=clock) as (running, _):
        blocker = running.submit(request(clock))
        await session.run_began()
        bad = request(clock)
        bad.inputs["INPUT0"] = np.full((1, 2), POISON, np.float32)
        leaving = [running.submit(request(clock)) for _ in range(2)]
        fails, stays = running.submit(bad), running.submit(request(clock))
        session.let_go()
        await blocker
        await session.run_began()
        for each in leaving:
            each.cancel()
        session.open()
        with pytest.raises(InvalidArgumentError, match="does not take this value"):
            await fails
        assert (await stays).batch_reason == "retry"
        assert (running.busy, running.queued) == (0, 0)
