"""Runs on the event loop's thread are told, counted and ordered like those on an instance's thread."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pytest
from support.clock import FakeClock
from support.sessions import POISON, DoublingSession, GatedSession

from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import DeadlineExceededError, InvalidArgumentError
from naiad.core.tensors import InferRequest, InferResponse, ModelKey
from naiad.scheduling.batching import BatchPolicy
from naiad.scheduling.inline import InlinePace
from naiad.scheduling.scheduler import BatchScheduler
from naiad.scheduling.tensors import BatchLayout
from naiad.telemetry.statistics import VersionStatistics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from naiad.core.tensors import Array, Tensors

TENSOR = (DataType.FP32, (2,))
CONFIG = ModelConfig("m", 4, (TensorConfig("INPUT0", *TENSOR),), (TensorConfig("OUTPUT0", *TENSOR),))


def request(value: float, rows: int = 1, *, deadline_ns: int | None = None) -> InferRequest:
    array = np.full((rows, 2), value, np.float32)
    return InferRequest("m", None, {"INPUT0": array}, batch_size=rows, deadline_ns=deadline_ns)


@asynccontextmanager
async def inline_scheduler(
    *sessions: DoublingSession, clock: FakeClock | None = None, preserve_ordering: bool = False
) -> AsyncIterator[tuple[BatchScheduler, VersionStatistics]]:
    """A scheduler whose lone requests run inline from the first one on; larger ones go to threads."""
    statistics = VersionStatistics()
    running = BatchScheduler(
        ModelKey("m", 1),
        policy=BatchPolicy(max_batch_size=4, preferred=(4,)),
        layout=BatchLayout(CONFIG),
        sessions=[(f"m_{index}", session) for index, session in enumerate(sessions)],
        statistics=statistics,
        max_queue_size=10,
        clock=clock or FakeClock(),
        preserve_ordering=preserve_ordering,
    )
    pace = InlinePace(10**9)
    pace.inline = True
    running.run_inline(pace)
    try:
        yield running, statistics
    finally:
        for session in sessions:
            if isinstance(session, GatedSession):
                session.open()
        await running.close()


def value(answer: asyncio.Future[InferResponse]) -> float:
    return float(answer.result().outputs["OUTPUT0"][0, 0])


async def test_requests_in_a_row_are_answered_as_they_are_submitted_and_counted_one_by_one() -> None:
    async with inline_scheduler(DoublingSession()) as (running, statistics):
        answers = [running.submit(request(number)) for number in range(3)]
        assert [value(answer) for answer in answers] == [0, 2, 4]
        assert {answer.result().batch_reason for answer in answers} == {"idle"}
        assert (statistics.inference_count, statistics.execution_count, statistics.inline_runs) == (3, 3, 3)
        assert (running.busy, running.queued) == (0, 0)
        await asyncio.wait_for(running.drain(), 5)


async def test_what_waits_behind_a_larger_request_joins_a_batch_and_the_next_one_runs_inline_again() -> None:
    session = GatedSession()
    async with inline_scheduler(session) as (running, _):
        large = running.submit(request(1, rows=2))
        await session.run_began()
        waiting = [running.submit(request(number)) for number in (2, 3)]
        assert not any(answer.done() for answer in waiting)
        session.open()
        await asyncio.gather(large, *waiting)
        assert session.batches == [2, 2]
        assert value(running.submit(request(5))) == 10


async def test_an_error_is_the_callers_and_counted() -> None:
    async with inline_scheduler(DoublingSession()) as (running, statistics):
        with pytest.raises(InvalidArgumentError, match="does not take this value"):
            await running.submit(request(POISON))
        assert value(running.submit(request(1))) == 2
        assert (statistics.fail.count, statistics.success.count) == (1, 1)


async def test_a_deadline_that_has_passed_is_told_and_nothing_runs() -> None:
    session, clock = DoublingSession(), FakeClock()
    async with inline_scheduler(session, clock=clock) as (running, _):
        with pytest.raises(DeadlineExceededError):
            await running.submit(request(1, deadline_ns=clock.now_ns()))
        assert session.batches == []


async def test_in_order_an_inline_answer_waits_for_what_was_started_before_it() -> None:
    gated, other = GatedSession(), GatedSession()
    async with inline_scheduler(other, gated, preserve_ordering=True) as (running, _):
        first = running.submit(request(1, rows=2))
        await gated.run_began()
        other.open()
        second = running.submit(request(2))
        assert not second.done()
        gated.open()
        assert [value(answer) async for answer in _each(first, second)] == [2, 4]


class Crash(BaseException):
    """What no caller's fault and no engine's error is."""


class CrashingSession(DoublingSession):
    """Crashes on POISON."""

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        """Double, or crash."""
        if np.any(inputs["INPUT0"] == POISON):
            self._crash()
        return super().run(inputs, outputs)

    def _crash(self) -> NoReturn:
        raise Crash


async def test_in_order_a_run_that_crashes_holds_up_nobody_after_it() -> None:
    async with inline_scheduler(CrashingSession(), preserve_ordering=True) as (running, _):
        with pytest.raises(Crash):
            running.submit(request(POISON))
        assert value(running.submit(request(1))) == 2


async def _each(
    *answers: asyncio.Future[InferResponse],
) -> AsyncIterator[asyncio.Future[InferResponse]]:
    for answer in answers:
        await answer
        yield answer
