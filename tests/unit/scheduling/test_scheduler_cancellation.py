"""Callers that leave: out of the queue at once; a run ends with the last of its callers; the rest is counted."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.clock import FakeClock
from support.onnx_models import looping
from support.runtime import cpu_session
from support.schedulers import running_scheduler
from support.sequences import SUM, SequenceSession, item, sequence_config, value_of
from support.sessions import DoublingSession, GatedSession

from naiad.config.model_config import DynamicBatching, ModelConfig, TensorConfig
from naiad.config.sequence_config import DirectStrategy, OldestStrategy
from naiad.core.datatypes import DataType
from naiad.core.errors import CancelledError
from naiad.core.tensors import InferRequest
from naiad.telemetry.statistics import FailureReason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from naiad.core.tensors import Array, InferResponse, Tensors

CONFIG = ModelConfig(
    name="m",
    max_batch_size=4,
    inputs=(TensorConfig("INPUT0", DataType.FP32, (2,)),),
    outputs=(TensorConfig("OUTPUT0", DataType.FP32, (2,)),),
    dynamic_batching=DynamicBatching(preferred_batch_sizes=(3,)),
)


class ShareableSession(GatedSession):
    """A GatedSession whose instances can end their runs; `ended` counts those that were."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = 0

    def for_instance(self) -> _Ending:
        return _Ending(self)


class _Ending(DoublingSession):
    def __init__(self, shared: ShareableSession) -> None:
        super().__init__()
        self._shared = shared
        self._told = False

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        answer = self._shared.run(inputs, outputs)
        if self._told:
            raise CancelledError("the run was ended")
        return answer

    def terminate(self) -> None:
        self._told = True
        self._shared.ended += 1
        self._shared.let_go()

    def rearm(self) -> None:
        self._told = False


def request(value: float, rows: int = 1) -> InferRequest:
    return InferRequest("m", None, {"INPUT0": np.full((rows, 2), value, np.float32)}, batch_size=rows)


def doubled(answer: asyncio.Future[InferResponse]) -> float:
    return float(answer.result().outputs["OUTPUT0"][0, 0])


async def test_who_leaves_the_queue_is_neither_run_nor_waited_for() -> None:
    session = GatedSession()
    async with running_scheduler(CONFIG, session) as (running, statistics):
        first = running.submit(request(1))
        await session.run_began()
        waiting = [running.submit(request(value)) for value in (2, 3, 4)]
        for answer in waiting:
            answer.cancel()
        await asyncio.sleep(0)  # the futures tell whom they have to tell
        assert running.queued == 0
        assert statistics.failures[FailureReason.CANCELED] == 3
        session.open()
        await first
        await running.drain()
        assert session.batches == [1]
        assert (statistics.wasted_items, statistics.wasted_ns) == (0, 0)


async def test_a_run_that_nobody_waits_for_is_ended_and_not_tried_again() -> None:
    session = ShareableSession()
    async with running_scheduler(CONFIG, session) as (running, statistics):
        first = running.submit(request(0))
        await session.run_began()
        batch = [running.submit(request(value)) for value in (1, 2, 3)]
        session.let_go()
        await first
        await session.run_began()
        for answer in batch:
            answer.cancel()
        await running.drain()
        assert session.batches == [1, 3]
        assert (session.ended, statistics.terminated_count) == (1, 1)
        assert statistics.failures[FailureReason.CANCELED] == 3
        assert statistics.execution_count == 1
        assert statistics.wasted_items == 3


async def test_the_instance_is_fine_after_a_run_was_ended() -> None:
    session = ShareableSession()
    async with running_scheduler(CONFIG, session) as (running, _):
        leaving = running.submit(request(1))
        await session.run_began()
        after = running.submit(request(2))
        leaving.cancel()
        await session.run_began()
        session.open()
        await after
        assert doubled(after) == 4


async def test_one_caller_that_stays_keeps_its_batch_running() -> None:
    session = ShareableSession()
    async with running_scheduler(CONFIG, session) as (running, statistics):
        first = running.submit(request(0))
        await session.run_began()
        stays, *leaving = [running.submit(request(value)) for value in (1, 2, 3)]
        session.let_go()
        await first
        await session.run_began()
        for answer in leaving:
            answer.cancel()
        await asyncio.sleep(0)
        assert session.ended == 0
        session.open()
        await stays
        assert doubled(stays) == 2
        assert (statistics.terminated_count, statistics.wasted_items) == (0, 2)


async def test_instances_that_share_a_session_end_only_their_own_run() -> None:
    session = ShareableSession()
    lone = replace(CONFIG, dynamic_batching=None)
    async with running_scheduler(lone, session, session) as (running, _):
        leaving, stays = running.submit(request(1)), running.submit(request(2))
        await session.run_began()
        await session.run_began()
        leaving.cancel()
        await asyncio.sleep(0)
        session.open()
        await stays
        assert doubled(stays) == 4


async def test_the_time_of_a_batch_is_wasted_by_the_share_of_those_who_left() -> None:
    clock = FakeClock()

    class Second(GatedSession):
        def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
            answer = super().run(inputs, outputs)
            clock.advance_us(1_000_000)
            return answer

    session = Second()
    described = replace(CONFIG, dynamic_batching=DynamicBatching(preferred_batch_sizes=(4,)))
    async with running_scheduler(described, session, clock=clock) as (running, statistics):
        first = running.submit(request(0))
        await session.run_began()
        stays, leaving = running.submit(request(1, rows=1)), running.submit(request(2, rows=3))
        session.let_go()
        await first
        await session.run_began()
        leaving.cancel()
        session.open()
        await stays
        assert (statistics.wasted_ns, statistics.wasted_items) == (750_000_000, 3)


@pytest.mark.parametrize(
    "strategy", [DirectStrategy(), OldestStrategy(preferred_batch_sizes=(1,))], ids=["direct", "oldest"]
)
async def test_a_sequences_run_goes_on_because_its_state_is_needed(
    strategy: DirectStrategy | OldestStrategy,
) -> None:
    class Ending(SequenceSession, ShareableSession):
        pass

    session = Ending()
    async with running_scheduler(sequence_config(strategy, states=(SUM,)), session) as (running, statistics):
        leaving = running.submit(item(1, 1, "S"))
        await session.run_began()
        later = running.submit(item(1, 2, "E"))
        leaving.cancel()
        await asyncio.sleep(0)
        session.open()
        assert value_of(await later) == 3
        assert (session.ended, statistics.wasted_items) == (0, 0)


def turns(count: int) -> InferRequest:
    inputs: dict[str, Array] = {"INPUT0": np.zeros((1, 1), np.float32), "COUNT": np.array([[count]])}
    return InferRequest("loop", None, inputs)


async def test_a_real_run_without_an_end_is_ended_and_the_engine_goes_on(tmp_path: Path) -> None:
    described = ModelConfig(
        name="loop",
        max_batch_size=1,
        inputs=(
            TensorConfig("INPUT0", DataType.FP32, (1,)),
            TensorConfig("COUNT", DataType.INT64, (1,)),
        ),
        outputs=(TensorConfig("OUTPUT0", DataType.FP32, (1,)),),
    )
    session = cpu_session(looping(), tmp_path)
    async with running_scheduler(described, session) as (running, statistics):
        leaving, after = running.submit(turns(2**62)), running.submit(turns(5))
        await asyncio.sleep(0)
        assert (running.busy, running.queued) == (1, 1)
        leaving.cancel()
        assert (await after).outputs["OUTPUT0"].tolist() == [[5]]
        assert statistics.terminated_count == 1
        assert statistics.failures[FailureReason.CANCELED] == 1
        assert statistics.wasted_items == 1
        assert statistics.execution_count == 1
