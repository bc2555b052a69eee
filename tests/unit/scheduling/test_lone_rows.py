"""Triton's rules for models without a scheduler, and for instances, on a clock that stands still.

Nothing is merged: see `test_batcher_rows`. What the rate limiter adds is in `test_rate_limited`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from support.clock import FakeClock
from support.schedulers import running_scheduler
from support.sessions import GatedSession

from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.core.datatypes import DataType
from naiad.core.tensors import InferRequest


def lone_config() -> ModelConfig:
    tensor = (DataType.FP32, (2,))
    return ModelConfig("m", 8, (TensorConfig("INPUT0", *tensor),), (TensorConfig("OUTPUT0", *tensor),))


def lone(value: float, **fields: Any) -> InferRequest:
    return InferRequest("m", None, {"INPUT0": np.full((1, 2), value, np.float32)}, **fields)


async def test_without_a_scheduler_requests_run_in_order_one_an_instance() -> None:
    left, right = GatedSession(), GatedSession()
    async with running_scheduler(lone_config(), left, right, clock=FakeClock()) as (running, statistics):
        answers = [running.submit(lone(value)) for value in range(4)]
        assert (running.busy, running.queued) == (2, 2)
        order: list[float] = []
        for each in answers:
            each.add_done_callback(lambda done: order.append(float(done.result().outputs["OUTPUT0"][0, 0])))
        left.open()
        for each in (answers[1], answers[2], answers[3]):  # the last instance of the list took the first one
            await each
        assert not answers[0].done()
        right.open()
        await answers[0]
        assert order == [2, 4, 6, 0]
        assert list(statistics.batches) == [1]


async def test_without_a_scheduler_timeouts_and_priorities_are_ignored() -> None:
    session, clock = GatedSession(), FakeClock()
    async with running_scheduler(lone_config(), session, clock=clock) as (running, statistics):
        answers = [running.submit(lone(1))]
        await session.run_began()
        answers += [running.submit(lone(value, priority=9 - value, timeout_us=1)) for value in (2, 3, 4)]
        clock.advance_us(3_600_000_000)
        order: list[float] = []
        for each in answers:
            each.add_done_callback(lambda done: order.append(float(done.result().outputs["OUTPUT0"][0, 0])))
        session.open()
        for each in answers:
            await each
        assert order == [2, 4, 6, 8]
        assert statistics.fail.count == 0


async def test_as_many_run_at_a_time_as_there_are_instances_and_any_idle_one_is_next() -> None:
    sessions = [GatedSession() for _ in range(3)]
    async with running_scheduler(lone_config(), *sessions, clock=FakeClock()) as (running, _):
        answers = [running.submit(lone(value)) for value in range(5)]
        assert (running.busy, running.queued) == (3, 2)
        sessions[1].let_go()
        await answers[1]
        assert (running.busy, running.queued) == (3, 1)
        sessions[1].let_go()
        await answers[3]
        assert (running.busy, running.queued) == (3, 0)
        for session in sessions:
            session.open()
        await running.drain()
        assert [len(session.batches) for session in sessions] == [1, 3, 1]
