"""Queue policies, priorities and ordering on a running scheduler, as Triton's golden cases have them."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from support.clock import FakeClock
from support.schedulers import running_scheduler
from support.sessions import POISON, DoublingSession, GatedSession

from naiad.config.model_config import (
    DynamicBatching,
    ModelConfig,
    QueuePolicy,
    TensorConfig,
    TimeoutAction,
)
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError, UnavailableError
from naiad.core.tensors import InferRequest, InferResponse
from naiad.telemetry.statistics import FailureReason, RefusalReason

HOUR_US = 3_600_000_000
SOON_US = 5_000


def config(batching: DynamicBatching, max_batch_size: int = 1) -> ModelConfig:
    return ModelConfig(
        name="m",
        max_batch_size=max_batch_size,
        inputs=(TensorConfig("INPUT0", DataType.FP32, (2,)),),
        outputs=(TensorConfig("OUTPUT0", DataType.FP32, (2,)),),
        dynamic_batching=batching,
    )


def policy(
    action: TimeoutAction = TimeoutAction.REJECT,
    *,
    timeout_us: int = 0,
    override: bool = False,
    max_queue_size: int = 0,
) -> DynamicBatching:
    return DynamicBatching(default_queue_policy=QueuePolicy(action, timeout_us, override, max_queue_size))


def request(value: float, *, priority: int = 0, timeout_us: int = 0) -> InferRequest:
    array = np.full((1, 2), value, dtype=np.float32)
    return InferRequest("m", None, {"INPUT0": array}, priority=priority, timeout_us=timeout_us)


def doubled(response: InferResponse) -> float:
    return float(response.outputs["OUTPUT0"][0, 0])


async def test_an_expired_request_is_rejected_by_a_timer_while_the_instance_still_runs() -> None:
    session = GatedSession()
    async with running_scheduler(config(policy(timeout_us=SOON_US)), session) as (running, statistics):
        first = running.submit(request(1))
        await session.run_began()
        with pytest.raises(UnavailableError) as caught:
            await running.submit(request(2))
        assert caught.value.message == "Request timeout expired"
        assert statistics.failures[FailureReason.REJECTED] == 1
        assert statistics.fail.count == 1
        assert not first.done()
        session.open()
        assert doubled(await first) == 2
    assert session.batches == [1]


async def test_a_requests_own_timeout_counts_when_it_is_allowed_and_shorter() -> None:
    session = GatedSession()
    allowed = config(policy(timeout_us=HOUR_US, override=True))
    async with running_scheduler(allowed, session) as (running, _):
        first = running.submit(request(1))
        await session.run_began()
        with pytest.raises(UnavailableError, match="Request timeout expired"):
            await running.submit(request(2, timeout_us=SOON_US))
        assert not first.done()


async def test_without_a_policys_timeout_a_requests_own_is_ignored() -> None:
    session = GatedSession()
    async with running_scheduler(config(policy(override=True)), session) as (running, _):
        first = running.submit(request(1))
        await session.run_began()
        other = running.submit(request(2, timeout_us=1))
        session.open()
        assert [doubled(await answer) for answer in (first, other)] == [2, 4]


async def test_a_delayed_request_runs_after_those_that_came_later() -> None:
    """It is answered all the same."""
    session, clock = GatedSession(), FakeClock()
    batching = policy(TimeoutAction.DELAY, timeout_us=HOUR_US)
    async with running_scheduler(config(batching), session, clock=clock) as (running, statistics):
        order: list[float] = []
        answers = [running.submit(request(1))]
        await session.run_began()
        answers.append(running.submit(request(2)))
        clock.advance_us(HOUR_US)
        answers.append(running.submit(request(3)))
        for answer in answers:
            answer.add_done_callback(lambda done: order.append(doubled(done.result())))
        session.open()
        await asyncio.gather(*answers)
        assert order == [2, 6, 4]
        assert statistics.fail.count == 0


async def test_level_one_overtakes_what_waits_below_it() -> None:
    """Triton's golden case: priorities 2, 2, 2, 1; the last to come is the second to run."""
    session = GatedSession()
    batching = DynamicBatching(priority_levels=2, default_priority_level=2)
    async with running_scheduler(config(batching), session) as (running, _):
        order: list[float] = []
        answers = [running.submit(request(1, priority=2))]
        await session.run_began()
        answers += [
            running.submit(request(value, priority=level)) for value, level in ((2, 2), (3, 0), (4, 1))
        ]
        for answer in answers:
            answer.add_done_callback(lambda done: order.append(doubled(done.result())))
        session.open()
        await asyncio.gather(*answers)
        assert order == [2, 8, 4, 6]


async def test_one_batch_takes_requests_of_several_levels() -> None:
    session = GatedSession()
    batching = DynamicBatching(priority_levels=2, default_priority_level=2)
    async with running_scheduler(config(batching, 4), session) as (running, _):
        first = running.submit(request(1))
        await session.run_began()
        others = [running.submit(request(value, priority=level)) for value, level in ((2, 2), (3, 1))]
        session.open()
        assert [doubled(await answer) for answer in (first, *others)] == [2, 4, 6]
        assert session.batches == [1, 2]


async def test_a_full_level_refuses_in_tritons_words_and_is_no_failure() -> None:
    session = GatedSession()
    async with running_scheduler(config(policy(max_queue_size=2)), session) as (running, statistics):
        accepted = [running.submit(request(1))]
        await session.run_began()
        accepted += [running.submit(request(value)) for value in (2, 3)]
        with pytest.raises(UnavailableError) as caught:
            running.submit(request(4))
        assert caught.value.message == "[request id: <id_unknown>] Exceeds maximum queue size"
        assert statistics.fail.count == 0
        assert statistics.refusals[RefusalReason.QUEUE_FULL] == 1
        session.open()
        await asyncio.gather(*accepted)


async def test_a_full_level_leaves_room_in_another() -> None:
    session = GatedSession()
    batching = DynamicBatching(
        priority_levels=2,
        default_priority_level=2,
        priority_queue_policy={2: QueuePolicy(max_queue_size=1)},
    )
    async with running_scheduler(config(batching), session) as (running, _):
        answers = [running.submit(request(1))]
        await session.run_began()
        answers.append(running.submit(request(2)))
        with pytest.raises(UnavailableError, match="Exceeds maximum queue size$"):
            running.submit(request(3))
        answers.append(running.submit(request(4, priority=1)))
        session.open()
        assert [doubled(await answer) for answer in answers] == [2, 4, 8]


async def test_the_servers_limit_bounds_the_whole_queue_and_names_its_flag() -> None:
    session = GatedSession()
    limits = policy(max_queue_size=50)
    async with running_scheduler(config(limits), session, max_queue_size=1) as (running, _):
        running.submit(request(1))
        await session.run_began()
        running.submit(request(2))
        with pytest.raises(UnavailableError, match=r"1 requests wait .* limit is 1 \(--max-queue-size\)"):
            running.submit(request(3))
        session.open()
        await running.drain()


async def test_preserved_order_holds_a_faster_answer_back() -> None:
    slow, fast = GatedSession(), GatedSession()
    async with running_scheduler(config(DynamicBatching(preserve_ordering=True)), fast, slow) as (running, _):
        first = running.submit(request(1))
        await slow.run_began()  # the last instance of the list is the first to be asked
        second = running.submit(request(2))
        fast.open()
        await fast.run_began()
        third = running.submit(request(3))
        await fast.run_began()
        assert [answer.done() for answer in (first, second, third)] == [False, False, False]
        slow.open()
        assert [doubled(await answer) for answer in (first, second, third)] == [2, 4, 6]


async def test_preserved_order_keeps_a_failure_in_its_place() -> None:
    slow, fast = GatedSession(), GatedSession()
    async with running_scheduler(config(DynamicBatching(preserve_ordering=True)), fast, slow) as (running, _):
        first = running.submit(request(1))
        await slow.run_began()
        failing = running.submit(request(POISON))
        fast.open()
        after = running.submit(request(3))
        await fast.run_began()
        await fast.run_began()
        assert not failing.done()
        slow.open()
        assert doubled(await first) == 2
        with pytest.raises(InvalidArgumentError):
            await failing
        assert doubled(await after) == 6


@pytest.mark.parametrize("max_batch_size", [0, 1])
async def test_policies_hold_for_models_that_do_not_batch_too(max_batch_size: int) -> None:
    session = GatedSession()
    limits = config(policy(max_queue_size=1), max_batch_size)
    async with running_scheduler(limits, session) as (running, _):
        first = running.submit(request(1))
        await session.run_began()
        second = running.submit(request(2))
        with pytest.raises(UnavailableError, match="Exceeds maximum queue size$"):
            running.submit(request(3))
        session.open()
        assert [doubled(await answer) for answer in (first, second)] == [2, 4]


async def test_a_version_that_drains_counts_whom_it_refuses() -> None:
    async with running_scheduler(config(DynamicBatching()), DoublingSession()) as (running, statistics):
        await running.drain()
        with pytest.raises(UnavailableError, match="stopped accepting"):
            running.submit(request(1))
        assert statistics.refusals[RefusalReason.STOPPING] == 1
        assert statistics.fail.count == 0
