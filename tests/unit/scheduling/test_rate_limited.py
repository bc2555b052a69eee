"""Schedulers that share resources, on a real loop with real instance threads; only the sessions are the test's."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.schedulers import running_scheduler
from support.sequences import SequenceSession, item, sequence_config, value_of
from support.sessions import DoublingSession, GatedSession

from naiad.config.model_config import DynamicBatching, ModelConfig, TensorConfig
from naiad.config.rate_config import RateLimit, RateResource
from naiad.config.sequence_config import DirectStrategy, OldestStrategy
from naiad.core.clock import MonotonicClock
from naiad.core.datatypes import DataType
from naiad.core.errors import DeadlineExceededError
from naiad.core.tensors import InferRequest, ModelKey
from naiad.runtime.layout import Instance
from naiad.scheduling.parts import SharedParts
from naiad.scheduling.rate_limiter import RateLimiter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from naiad.runtime.session import Session
    from naiad.scheduling.factory import Scheduler

CONFIG = ModelConfig(
    name="m",
    max_batch_size=4,
    inputs=(TensorConfig("INPUT0", DataType.FP32, (2,)),),
    outputs=(TensorConfig("OUTPUT0", DataType.FP32, (2,)),),
    dynamic_batching=DynamicBatching(preferred_batch_sizes=(1,)),
)
ONE = RateLimit((RateResource("R", 1),))


def request(value: float, *, deadline_ns: int | None = None) -> InferRequest:
    array = np.full((1, 2), value, dtype=np.float32)
    return InferRequest("m", None, {"INPUT0": array}, deadline_ns=deadline_ns)


@asynccontextmanager
async def limited(
    limiter: RateLimiter,
    *sessions: Session,
    limit: RateLimit = ONE,
    config: ModelConfig = CONFIG,
    last: int = 1,
) -> AsyncIterator[Scheduler]:
    """A scheduler whose instances each need what `limit` says, the last one `last` times as much."""
    instances = [Instance(f"i{index}", None, rate_limit=limit) for index in range(len(sessions))]
    more = RateLimit(
        tuple(replace(each, count=each.count * last) for each in limit.resources), limit.priority
    )
    instances[-1] = instances[-1]._replace(rate_limit=more)
    parts = SharedParts(rate_limiter=limiter)
    parts.check(instances)
    async with running_scheduler(config, *sessions) as (inner, statistics):
        running = parts.around(
            inner,
            ModelKey("m", 1),
            config=config,
            instances=instances,
            statistics=statistics,
            max_queue_size=100,
            clock=MonotonicClock(),
        )
        assert running is inner
        yield running


async def test_an_instance_starts_only_when_another_models_has_given_back() -> None:
    limiter = RateLimiter()
    first, second = GatedSession(), GatedSession()
    async with limited(limiter, first) as one, limited(limiter, second) as other:
        runs = one.submit(request(1))
        await first.run_began()
        waits = other.submit(request(2))
        assert (one.busy, other.busy, other.queued) == (1, 0, 1)
        first.let_go()
        await runs
        await second.run_began()
        assert (one.busy, other.busy, other.queued) == (0, 1, 0)
        second.let_go()
        assert (await waits).outputs["OUTPUT0"][0, 0] == 4
    assert limiter.free() == {}


async def test_two_instances_of_a_model_share_what_one_needs() -> None:
    sessions = [GatedSession(), GatedSession()]
    async with limited(RateLimiter(), *sessions) as running:
        answers = [running.submit(request(value)) for value in range(3)]
        assert (running.busy, running.queued) == (1, 2)
        for session in sessions:
            session.open()
        await asyncio.gather(*answers)


async def test_an_instance_that_needs_too_much_does_not_hold_back_its_smaller_sibling() -> None:
    limiter = RateLimiter({("R", 0): 4})
    holder = GatedSession()
    async with (
        limited(limiter, holder) as one,
        limited(limiter, DoublingSession(), DoublingSession(), last=4) as two,
    ):
        runs = one.submit(request(1))
        await holder.run_began()
        response = await asyncio.wait_for(two.submit(request(2)), 20)
        assert response.instance == "m_0", "the other one needs all four"
        holder.open()
        await runs


async def test_a_larger_explicit_total_lets_both_run() -> None:
    sessions = [GatedSession(), GatedSession()]
    async with limited(RateLimiter({("R", 0): 2}), *sessions) as running:
        for value in range(3):
            running.submit(request(value)).add_done_callback(lambda each: each.exception())
        assert (running.busy, running.queued) == (2, 1)


async def test_a_request_that_waits_for_resources_keeps_its_deadline_and_its_place_goes_to_others() -> None:
    limiter = RateLimiter()
    holder, session, third = GatedSession(), DoublingSession(), DoublingSession()
    async with AsyncExitStack() as stack:
        one, other, last = [
            await stack.enter_async_context(limited(limiter, each)) for each in (holder, session, third)
        ]
        runs = one.submit(request(1))
        await holder.run_began()
        late = other.submit(request(2, deadline_ns=MonotonicClock().now_ns() + 1_000_000))
        waits = last.submit(request(3))
        with pytest.raises(DeadlineExceededError):
            await late
        holder.open()
        await asyncio.gather(runs, waits)
    assert session.batches == []


async def test_a_version_that_closes_while_it_waits_or_runs_gives_everything_back() -> None:
    limiter = RateLimiter()
    holder, session = GatedSession(), DoublingSession()
    async with limited(limiter, session) as other:
        async with limited(limiter, holder) as one:
            runs = one.submit(request(1))
            await holder.run_began()
            waits = other.submit(request(2))
            assert other.queued == 1
        assert runs.done()
        await waits
        drained = other.submit(request(3))
        await other.drain()
        assert drained.done()
    assert limiter.free() == {}


@pytest.mark.parametrize(
    "strategy", [DirectStrategy(), OldestStrategy(max_candidate_sequences=3)], ids=["direct", "oldest"]
)
async def test_sequences_wait_for_resources_too(strategy: DirectStrategy | OldestStrategy) -> None:
    limiter = RateLimiter()
    holder = GatedSession()
    config = sequence_config(strategy, max_batch_size=2)
    sessions = [SequenceSession(gated=False), SequenceSession(gated=False)]
    async with limited(limiter, holder) as one, limited(limiter, *sessions, config=config) as other:
        one.submit(request(1))
        await holder.run_began()
        answers = [other.submit(item(number, number, "SE")) for number in (1, 2, 3)]
        assert (other.busy, other.queued) == (0, 3)
        holder.open()
        assert [value_of(each) for each in await asyncio.gather(*answers)]


async def test_many_callers_of_three_models_are_all_answered() -> None:
    """No wake-up is lost between real threads."""
    limiter = RateLimiter()
    small, large = RateLimit((RateResource("R", 1),), 2), RateLimit((RateResource("R", 3),), 1)
    async with AsyncExitStack() as stack:
        models = [
            await stack.enter_async_context(
                limited(limiter, DoublingSession(), DoublingSession(), limit=limit)
            )
            for limit in (small, large, small)
        ]

        async def client(model: Scheduler, count: int) -> None:
            for value in range(count):
                answer = await model.submit(request(value))
                assert answer.outputs["OUTPUT0"][0, 0] == 2 * value

        await asyncio.gather(*(client(model, 30) for model in models for _ in range(5)))
        assert [(model.busy, model.queued) for model in models] == [(0, 0)] * 3
