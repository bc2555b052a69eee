"""A scheduler behind the cache, on a real loop with real instance threads; only the session is the test's."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.schedulers import running_scheduler
from support.sessions import POISON, DoublingSession, GatedSession

from naiad.config.model_config import DynamicBatching, ModelConfig, TensorConfig
from naiad.core.clock import MonotonicClock
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError, UnavailableError
from naiad.core.tensors import InferRequest, ModelKey
from naiad.scheduling.cache import HEAVY_BYTES, ResponseCache
from naiad.scheduling.cached import CACHED, CachedScheduler
from naiad.scheduling.parts import SharedParts
from naiad.telemetry.statistics import FailureReason, RefusalReason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from naiad.core.tensors import InferResponse
    from naiad.scheduling.factory import Scheduler
    from naiad.telemetry.statistics import VersionStatistics

LIGHT, HEAVY = 1, HEAVY_BYTES // 8 + 1
"""Rows of a request that is hashed on the loop, and of one that is hashed in a thread."""

SIZES = pytest.mark.parametrize("rows", [LIGHT, HEAVY], ids=["light", "heavy"])


def config(**fields: Any) -> ModelConfig:
    return ModelConfig(
        name="m",
        max_batch_size=100_000,
        inputs=(TensorConfig("INPUT0", DataType.FP32, (2,)),),
        outputs=(TensorConfig("OUTPUT0", DataType.FP32, (2,)),),
        response_cache=True,
        **fields,
    )


ORDERED = config(dynamic_batching=DynamicBatching(preserve_ordering=True, preferred_batch_sizes=(1,)))


def request(value: float, rows: int = LIGHT, *, deadline_ns: int | None = None) -> InferRequest:
    array = np.full((rows, 2), value, dtype=np.float32)
    return InferRequest("m", None, {"INPUT0": array}, batch_size=rows, deadline_ns=deadline_ns)


def value(response: InferResponse) -> float:
    return float(response.outputs["OUTPUT0"][0, 0])


@asynccontextmanager
async def cached(
    *sessions: DoublingSession,
    cache: ResponseCache | None = None,
    model: ModelConfig | None = None,
    max_queue_size: int = 100,
) -> AsyncIterator[tuple[Scheduler, VersionStatistics]]:
    model = model or config()
    async with running_scheduler(model, *sessions, max_queue_size=max_queue_size) as (inner, statistics):
        running = SharedParts(cache=ResponseCache(2**24) if cache is None else cache).around(
            inner,
            ModelKey("m", 1),
            config=model,
            instances=(),
            statistics=statistics,
            max_queue_size=max_queue_size,
            clock=MonotonicClock(),
        )
        assert isinstance(running, CachedScheduler)
        try:
            yield running, statistics
        finally:
            for session in sessions:
                if isinstance(session, GatedSession):
                    session.open()
            await running.close()


def counts(statistics: VersionStatistics) -> tuple[int, int, int, int]:
    """Hits, misses, successes and inferences."""
    assert statistics.cache is not None
    hit, miss = statistics.cache.hit, statistics.cache.miss
    return hit.count, miss.count, statistics.success.count, statistics.inference_count


@SIZES
async def test_what_was_asked_before_is_answered_without_a_run(rows: int) -> None:
    session = DoublingSession()
    async with cached(session) as (running, statistics):
        first = await running.submit(request(3, rows))
        second = await running.submit(request(3, rows))
        third = await running.submit(request(4, rows))
    assert (value(first), value(second), value(third)) == (6, 6, 8)
    assert session.batches == [rows, rows]
    assert counts(statistics) == (1, 2, 3, 2 * rows)
    assert (second.batch_reason, second.batch_size, second.times.infer_ns, second.times.queue_ns) == (
        CACHED,
        0,
        0,
        0,
    )
    assert not second.outputs["OUTPUT0"].flags.writeable
    assert statistics.cache is not None
    assert statistics.cache.miss.ns > 0
    assert statistics.compute_infer.count == 2
    assert statistics.queue.count == 3


async def test_equal_requests_that_are_there_at_once_are_all_answered_and_counted() -> None:
    session = GatedSession()
    async with cached(session) as (running, statistics):
        answers = [running.submit(request(5)) for _ in range(4)]
        session.open()
        assert [value(each) for each in await asyncio.gather(*answers)] == [10] * 4
        assert value(await running.submit(request(5))) == 10
    hits, misses, successes, _ = counts(statistics)
    assert (hits, misses, successes) == (1, 4, 5)


async def test_an_error_is_not_kept() -> None:
    session = DoublingSession()
    async with cached(session) as (running, statistics):
        for _ in range(2):
            with pytest.raises(InvalidArgumentError, match="does not take this value"):
                await running.submit(request(POISON))
    assert len(session.batches) == 2
    assert counts(statistics) == (0, 0, 0, 0)
    assert statistics.fail.count == 2


@SIZES
async def test_a_cached_answer_is_no_view_of_the_batch_it_ran_in(rows: int) -> None:
    class Reusing(DoublingSession):
        """Answers with the same memory each time, as a session bound to its outputs does."""

        memory = np.zeros((HEAVY, 2), np.float32)

        def run(self, inputs: Any, outputs: Any) -> Any:
            array = inputs["INPUT0"]
            self.memory[: len(array)] = array * 2
            return dict.fromkeys(outputs, self.memory[: len(array)])

    async with cached(Reusing()) as (running, _):
        await running.submit(request(1, rows))
        await running.submit(request(2, rows))
        assert value(await running.submit(request(1, rows))) == 2


async def test_an_answer_larger_than_the_cache_is_told_and_not_kept() -> None:
    session = DoublingSession()
    async with cached(session, cache=ResponseCache(100)) as (running, statistics):
        for rows in (LIGHT, LIGHT, HEAVY, HEAVY):
            assert value(await running.submit(request(1, rows))) == 2
    assert len(session.batches) == 4
    assert counts(statistics)[:2] == (0, 4)


async def test_another_load_of_the_version_never_sees_the_answers_of_the_old_one() -> None:
    class Tripling(DoublingSession):
        def run(self, inputs: Any, outputs: Any) -> Any:
            return dict.fromkeys(outputs, inputs["INPUT0"] * 3)

    cache = ResponseCache(2**20)
    async with cached(DoublingSession(), cache=cache) as (old, _):
        await old.submit(request(1))
        async with cached(Tripling(), cache=cache) as (new, _):
            assert value(await new.submit(request(1))) == 3
            assert value(await old.submit(request(1))) == 2
            assert len(cache) == 2
        assert len(cache) == 1, "what a version has answered leaves with it"
    assert (len(cache), cache.used_bytes) == (0, 0)


def _note(order: list[str], name: str, _: object) -> None:
    order.append(name)


async def test_a_hit_waits_for_the_answers_before_it_where_the_model_preserves_ordering() -> None:
    session = GatedSession()
    order: list[str] = []
    async with cached(session, model=ORDERED) as (running, statistics):
        known = running.submit(request(1))
        await session.run_began()
        session.let_go()
        await known
        answers = {}
        for name, number in (("slow", 2), ("hit", 1), ("slower", 3), ("last hit", 1)):
            answers[name] = running.submit(request(number))
            answers[name].add_done_callback(partial(_note, order, name))
        await session.run_began()
        assert order == []
        session.open()
        await asyncio.gather(*answers.values())
        await asyncio.sleep(0)
        assert order == ["slow", "hit", "slower", "last hit"]
    assert counts(statistics)[:2] == (2, 3)


async def test_a_hit_overtakes_what_runs_where_nothing_is_said_about_order() -> None:
    session = GatedSession()
    async with cached(session) as (running, _):
        known = running.submit(request(1))
        await session.run_began()
        session.let_go()
        await known
        slow = running.submit(request(2))
        await session.run_began()
        assert value(await running.submit(request(1))) == 2
        assert not slow.done()


async def test_a_caller_that_leaves_holds_nobody_up_and_leaves_the_queue() -> None:
    session = GatedSession()
    async with cached(session, model=ORDERED) as (running, statistics):
        runs = running.submit(request(1))
        await session.run_began()
        gone, stays = running.submit(request(2)), running.submit(request(3))
        assert running.queued == 2
        gone.cancel()
        for _ in range(2):  # the caller's future, then the scheduler's own
            await asyncio.sleep(0)
        assert running.queued == 1
        session.open()
        assert [value(each) for each in await asyncio.gather(runs, stays)] == [2, 6]
    assert statistics.failures[FailureReason.CANCELED] == 1


async def test_a_caller_that_leaves_while_its_digest_is_made_is_not_run() -> None:
    session = DoublingSession()
    async with cached(session, model=ORDERED) as (running, statistics):
        gone, stays = running.submit(request(1, HEAVY)), running.submit(request(2))
        gone.cancel()
        assert value(await stays) == 4
        await running.drain()
    assert session.batches == [LIGHT]
    assert statistics.failures[FailureReason.CANCELED] == 1


async def test_a_deadline_is_told_at_once_whoever_is_before_it() -> None:
    session = GatedSession()
    async with cached(session, model=ORDERED) as (running, _):
        runs = running.submit(request(1))
        await session.run_began()
        late = running.submit(request(2, deadline_ns=MonotonicClock().now_ns() + 1_000_000))
        with pytest.raises(Exception, match="Deadline Exceeded"):
            await late
        assert not runs.done()


@SIZES
async def test_a_full_queue_refuses_and_a_hit_needs_no_place_in_it(rows: int) -> None:
    session = GatedSession()
    async with cached(session, max_queue_size=1) as (running, statistics):
        known = running.submit(request(1))
        await session.run_began()
        session.let_go()
        await known
        running.submit(request(2))
        await session.run_began()
        waits = running.submit(request(3, rows))
        with pytest.raises(UnavailableError, match="Exceeds maximum queue size"):
            await running.submit(request(4, rows))
        assert value(await running.submit(request(1))) == 2
        session.open()
        await waits
    assert statistics.refusals[RefusalReason.QUEUE_FULL] == 1


@SIZES
async def test_a_drain_answers_all_that_was_accepted_and_takes_no_more_hits_included(rows: int) -> None:
    async with cached(DoublingSession(), model=ORDERED) as (running, statistics):
        await running.submit(request(1))
        accepted = [running.submit(request(number, rows)) for number in (1, 2, 3)]
        await running.drain()
        assert [value(each.result()) for each in accepted] == [2, 4, 6]
        with pytest.raises(UnavailableError, match="has stopped accepting"):
            running.submit(request(1))
    assert statistics.refusals[RefusalReason.STOPPING] == 1


async def test_closing_fails_what_waits_for_its_digest_or_an_instance() -> None:
    session = GatedSession()
    async with cached(session) as (running, statistics):
        runs = running.submit(request(1))
        await session.run_began()
        waits = [running.submit(request(2)), running.submit(request(3, HEAVY))]
        session.open()
        await running.close()
        assert value(await runs) == 2
        for each in waits:
            with pytest.raises(UnavailableError, match="the server stopped before"):
                await each
    assert statistics.failures[FailureReason.OTHER] == 2


async def test_no_cache_is_put_before_a_model_that_did_not_ask_or_without_the_flag() -> None:
    plain = ModelConfig("m", 4, config().inputs, config().outputs)
    for parts, model in ((SharedParts(cache=ResponseCache(1)), plain), (SharedParts(), config())):
        async with running_scheduler(model, DoublingSession()) as (inner, statistics):
            around = parts.around(
                inner,
                ModelKey("m", 1),
                config=model,
                instances=(),
                statistics=statistics,
                max_queue_size=1,
                clock=MonotonicClock(),
            )
            assert around is inner
            assert statistics.cache is None
    (sentence,) = SharedParts().list_unused(config())
    assert "--cache-config=local,size=BYTES" in sentence
    assert list(SharedParts(cache=ResponseCache(1)).list_unused(config())) == []
