"""The scheduler on a real loop with real instance threads; only the session is the test's."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.clock import FakeClock
from support.sessions import POISON, DoublingSession, GatedSession

from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.core.clock import MonotonicClock
from naiad.core.datatypes import DataType
from naiad.core.errors import (
    DeadlineExceededError,
    EngineTimeoutError,
    InternalError,
    InvalidArgumentError,
    UnavailableError,
)
from naiad.core.tensors import InferRequest, InferResponse, ModelKey
from naiad.scheduling.batching import BatchPolicy
from naiad.scheduling.scheduler import BatchScheduler
from naiad.scheduling.tensors import BatchLayout
from naiad.telemetry.statistics import FailureReason, VersionStatistics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from naiad.core.clock import Clock
    from naiad.core.tensors import Array, Tensors

CONFIG = ModelConfig(
    name="m",
    max_batch_size=4,
    inputs=(TensorConfig("INPUT0", DataType.FP32, (2,)),),
    outputs=(TensorConfig("OUTPUT0", DataType.FP32, (2,)),),
)
FOUR = BatchPolicy(max_batch_size=4, preferred=(4,))


def request(value: float, *, deadline_ns: int | None = None) -> InferRequest:
    array = np.full((1, 2), value, dtype=np.float32)
    return InferRequest("m", None, {"INPUT0": array}, deadline_ns=deadline_ns)


@asynccontextmanager
async def scheduler(
    *sessions: DoublingSession,
    policy: BatchPolicy = FOUR,
    max_queue_size: int = 100,
    clock: Clock | None = None,
) -> AsyncIterator[tuple[BatchScheduler, VersionStatistics]]:
    statistics = VersionStatistics()
    running = BatchScheduler(
        ModelKey("m", 1),
        policy=policy,
        layout=BatchLayout(CONFIG),
        sessions=[(f"m_{index}", session) for index, session in enumerate(sessions)],
        statistics=statistics,
        max_queue_size=max_queue_size,
        clock=clock or MonotonicClock(),
    )
    try:
        yield running, statistics
    finally:
        for session in sessions:
            if isinstance(session, GatedSession):
                session.open()
        await running.close()


def doubled(response: InferResponse) -> float:
    array = response.outputs["OUTPUT0"]
    assert array.shape == (1, 2)
    return float(array[0, 0])


async def test_what_waits_while_an_instance_runs_shares_the_next_batch() -> None:
    session = GatedSession()
    async with scheduler(session) as (running, statistics):
        first = running.submit(request(1))
        await session.run_began()
        others = [running.submit(request(value)) for value in (2, 3, 4)]
        session.open()
        answers = await asyncio.gather(first, *others)
        assert [doubled(answer) for answer in answers] == [2, 4, 6, 8]
        assert session.batches == [1, 3]
        assert [answer.batch_size for answer in answers] == [1, 3, 3, 3]
        assert answers[1].batch_reason == "idle"
        assert (statistics.inference_count, statistics.execution_count) == (4, 2)
        assert sorted(statistics.batches) == [1, 3]


async def test_two_instances_run_at_the_same_time() -> None:
    left, right = GatedSession(), GatedSession()
    async with scheduler(left, right, policy=BatchPolicy()) as (running, _):
        answers = [running.submit(request(value)) for value in (1, 2)]
        await asyncio.gather(left.run_began(), right.run_began())
        left.open()
        right.open()
        assert [doubled(await answer) for answer in answers] == [2, 4]


async def test_a_caller_that_cancels_in_the_queue_leaves_it_at_once() -> None:
    session = GatedSession()
    async with scheduler(session) as (running, statistics):
        first = running.submit(request(1))
        await session.run_began()
        kept, cancelled, also_kept = (running.submit(request(value)) for value in (2, 3, 4))
        cancelled.cancel()
        await asyncio.sleep(0)
        assert running.queued == 2
        session.open()
        assert [doubled(await answer) for answer in (first, kept, also_kept)] == [2, 4, 8]
        assert session.batches == [1, 2]
        assert statistics.fail.count == 1


async def test_a_caller_that_cancels_while_its_batch_runs_costs_the_others_nothing() -> None:
    session = GatedSession()
    async with scheduler(session, policy=BatchPolicy(4, (2,))) as (running, _):
        warm = running.submit(request(0))
        await session.run_began()
        kept, cancelled = running.submit(request(2)), running.submit(request(3))
        session.let_go()
        await warm
        await session.run_began()
        cancelled.cancel()
        session.open()
        assert doubled(await kept) == 4
        assert session.batches == [1, 2]


async def test_a_value_that_breaks_the_run_fails_alone() -> None:
    session = GatedSession()
    async with scheduler(session) as (running, statistics):
        warm = running.submit(request(0))
        await session.run_began()
        good, bad, also_good = (running.submit(request(value)) for value in (2, POISON, 4))
        session.open()
        await warm
        assert doubled(await good) == 4
        assert doubled(await also_good) == 8
        with pytest.raises(InvalidArgumentError, match="does not take this value"):
            await bad
        # The batch of three failed as a whole, then each ran alone.
        assert session.batches == [1, 3, 1, 1, 1]
        assert (statistics.success.count, statistics.fail.count, statistics.execution_count) == (3, 1, 3)


async def test_a_deadline_that_passes_in_the_queue_is_told_while_the_instance_still_runs() -> None:
    session = GatedSession()
    clock = MonotonicClock()
    async with scheduler(session) as (running, _):
        first = running.submit(request(1))
        await session.run_began()
        late = running.submit(request(2, deadline_ns=clock.now_ns() + 5_000_000))
        with pytest.raises(DeadlineExceededError):
            await late
        assert not first.done()
        patient = running.submit(request(3, deadline_ns=clock.now_ns() + 60_000_000_000))
        session.open()
        assert doubled(await patient) == 6


async def test_the_delay_gathers_a_batch_and_then_lets_it_go() -> None:
    session, clock = DoublingSession(), FakeClock()
    policy = BatchPolicy(4, (4,), max_queue_delay_ns=2_000_000)
    async with scheduler(session, policy=policy, clock=clock) as (running, _):
        waiting = [running.submit(request(value)) for value in (1, 2, 3)]
        clock.advance_us(1_999)
        waiting[0].get_loop().call_later(0.01, clock.advance_us, 1)  # the timer has looked before, in vain
        answers = await asyncio.gather(*waiting)
        assert clock.now == 1_002_000_000
        assert [doubled(answer) for answer in answers] == [2, 4, 6]
        assert session.batches == [3]
        assert answers[0].batch_reason == "delay"


async def test_a_full_queue_refuses_at_once_and_names_the_limit_and_the_flag() -> None:
    session = GatedSession()
    async with scheduler(session, max_queue_size=2) as (running, statistics):
        accepted = [running.submit(request(1))]
        await session.run_began()
        accepted += [running.submit(request(value)) for value in (2, 3)]
        with pytest.raises(
            UnavailableError, match=r"Exceeds maximum queue size: 2 .* limit is 2 \(--max-queue-size"
        ):
            running.submit(request(4))
        session.open()
        await asyncio.gather(*accepted)
        assert statistics.fail.count == 0


async def test_draining_answers_what_was_accepted_and_refuses_the_rest() -> None:
    session = GatedSession()
    async with scheduler(session) as (running, _):
        accepted = [running.submit(request(value)) for value in (1, 2, 3)]
        await session.run_began()
        draining = asyncio.create_task(running.drain())
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="stopped accepting"):
            running.submit(request(4))
        assert not draining.done()
        session.open()
        await draining
        assert [doubled(answer.result()) for answer in accepted] == [2, 4, 6]


async def test_closing_fails_what_still_waits_and_joins_the_threads() -> None:
    session = GatedSession()
    async with scheduler(session) as (running, _):
        first = running.submit(request(1))
        await session.run_began()
        waiting = running.submit(request(2))
        session.open()
        await running.close()
        assert doubled(await first) == 2
        with pytest.raises(UnavailableError, match="stopped before"):
            await waiting


async def test_a_batch_that_another_server_did_not_answer_in_time_is_not_run_again() -> None:
    """Each of its requests would take as long again: all of them fail at once, each counted once."""

    class Silent(GatedSession):
        def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
            super().run(inputs, outputs)
            raise EngineTimeoutError("no answer")

    session = Silent()
    async with scheduler(session) as (running, statistics):
        first = running.submit(request(1))
        await session.run_began()
        others = [running.submit(request(value)) for value in (2, 3, 4)]
        session.open()
        told = await asyncio.gather(first, *others, return_exceptions=True)
        assert [type(each) for each in told] == [EngineTimeoutError] * 4
        assert session.batches == [1, 3]
        assert (statistics.fail.count, statistics.failures[FailureReason.OTHER]) == (4, 4)


async def test_a_bug_in_the_engine_fails_its_request_alone_and_stays_what_it_is() -> None:
    """An exception that is not ours goes up as it came, so that the services log it and hide its text."""

    class Broken(GatedSession):
        def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
            answer = super().run(inputs, outputs)
            if np.any(inputs["INPUT0"] == 13):
                raise KeyError("a bug on 13")
            return answer

    session = Broken()
    async with scheduler(session) as (running, _):
        warm = running.submit(request(0))
        await session.run_began()
        good, bad = running.submit(request(2)), running.submit(request(13))
        session.open()
        await warm
        assert doubled(await good) == 4
        assert (await good).batch_reason == "retry"
        with pytest.raises(KeyError, match="a bug on 13"):
            await bad


async def test_whoever_left_is_not_run_again_when_a_batch_fails() -> None:
    session = GatedSession()
    async with scheduler(session, policy=BatchPolicy(4, (3,))) as (running, statistics):
        warm = running.submit(request(0))
        await session.run_began()
        good, bad, left = (running.submit(request(value)) for value in (2, POISON, 4))
        session.let_go()
        await warm
        await session.run_began()
        left.cancel()
        session.open()
        assert doubled(await good) == 4
        with pytest.raises(InvalidArgumentError):
            await bad
        await running.drain()
        assert session.batches == [1, 3, 1, 1]
        assert statistics.fail.count == 2


async def test_a_failed_request_leaves_nothing_in_memory() -> None:
    """No collector is needed: the error that the caller holds must not hold the batch through its frames."""
    gc.disable()
    try:
        async with scheduler(DoublingSession()) as (running, _):
            failing = request(POISON)
            inputs = weakref.ref(failing.inputs["INPUT0"])
            with pytest.raises(InvalidArgumentError):
                await running.submit(failing)
            del failing
            await running.close()  # the instance's thread lets go of its work a moment after it has told
            assert inputs() is None
    finally:
        gc.enable()


async def test_a_model_whose_rows_are_not_its_batchs_is_refused_also_alone() -> None:
    class OneRowMore(DoublingSession):
        def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
            array = super().run(inputs, outputs)["OUTPUT0"]
            return {"OUTPUT0": np.concatenate([array, array[:1]])}

    async with scheduler(OneRowMore()) as (running, _):
        with pytest.raises(InternalError, match=r"output 'OUTPUT0' has shape \[2, 2\] for a batch of 1"):
            await running.submit(request(1))


async def test_instances_do_not_share_batch_memory() -> None:
    """Two batches of two run at once; each sees its own rows."""
    left, right = GatedSession(), GatedSession()
    policy = BatchPolicy(2, (2,), max_queue_delay_ns=10**12)
    async with scheduler(left, right, policy=policy) as (running, _):
        answers = [running.submit(request(value)) for value in (1, 2, 3, 4)]
        await asyncio.gather(left.run_began(), right.run_began())
        left.open()
        right.open()
        assert [doubled(await answer) for answer in answers] == [2, 4, 6, 8]


async def test_closing_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    async with scheduler(DoublingSession(), DoublingSession()) as (running, _):
        assert len(set(threading.enumerate()) - before) == 2
        await running.close()
        left = {thread for thread in set(threading.enumerate()) - before if thread.name.startswith("naiad-m")}
        assert left == set()
        await running.drain()  # returns: there is nothing to wait for


class TickingClock(FakeClock):
    """Every look at it is one millisecond later."""

    def now_ns(self) -> int:
        self.now += 1_000_000
        return self.now


async def test_each_phase_is_timed_and_counted_once() -> None:
    """Looks at the clock: came, placed from, run from, run to, split to."""
    async with scheduler(DoublingSession(), clock=TickingClock()) as (running, statistics):
        response = await running.submit(request(1))
        times = response.times
        assert (times.queue_ns, times.compute_input_ns, times.infer_ns, times.compute_output_ns) == (
            1_000_000,
            1_000_000,
            1_000_000,
            1_000_000,
        )
        assert (statistics.success.count, statistics.success.ns) == (1, 4_000_000)
        assert (statistics.queue.ns, statistics.compute_infer.ns) == (1_000_000, 1_000_000)
        row = statistics.batches[1]
        assert (row.compute_input.ns, row.compute_infer.ns, row.compute_output.ns) == (1_000_000,) * 3
        assert statistics.last_inference_ms > 1_600_000_000_000
        with pytest.raises(InvalidArgumentError):
            await running.submit(request(POISON))
        assert statistics.fail.count == 1
        assert statistics.fail.ns > 0
        assert (statistics.success.count, statistics.execution_count) == (1, 1)
