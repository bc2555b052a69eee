"""Whatever arrives in whatever order: the dynamic batcher loses nothing, doubles nothing, and keeps every rule.

Hypothesis makes up a model config and a script of arrivals, cancellations, ended runs and passing time. It is
played on the real scheduler with its real instance threads; time stands still between the steps, and the loop's
timers follow the same clock, so that nothing but the timer which the scheduler has set tells it that time has
passed. After each step the scheduler is compared with `Witness`, which knows each request alone.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st
from support.batch_witness import Doubling, EndingDoubling, Send, Setting, Step, Witness
from support.schedulers import running_scheduler
from support.scripts import MS, Finish, Pass, scripts_of, times_us
from support.stepped import Stage, run_stepped

from naiad.config.model_config import (
    DynamicBatching,
    ModelConfig,
    QueuePolicy,
    TensorConfig,
    TimeoutAction,
)
from naiad.core.datatypes import DataType
from naiad.scheduling.base import SchedulerBase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.clock import FakeClock

policies = st.builds(
    QueuePolicy,
    timeout_action=st.sampled_from(TimeoutAction),
    default_timeout_us=times_us(or_none=True),
    allow_timeout_override=st.booleans(),
    max_queue_size=st.sampled_from([0, 0, 2]),
)


@st.composite
def batchings(draw: st.DrawFn) -> DynamicBatching:
    levels = draw(st.sampled_from([0, 0, 2, 3]))
    return DynamicBatching(
        preferred_batch_sizes=tuple(sorted(draw(st.sets(st.integers(1, 4), max_size=2)))),
        max_queue_delay_us=draw(times_us(or_none=True)),
        preserve_ordering=draw(st.booleans()),
        priority_levels=levels,
        default_priority_level=draw(st.integers(1, levels)) if levels else 0,
        default_queue_policy=draw(policies),
        priority_queue_policy=draw(st.dictionaries(st.integers(1, levels), policies)) if levels else {},
    )


scenes = st.builds(
    Setting,
    max_batch_size=st.sampled_from([0, 1, 4, 4, 4]),
    batching=batchings(),
    instances=st.sampled_from([1, 1, 1, 2, 3]),
    max_queue_size=st.sampled_from([3, 100, 100]),
    admission=st.booleans(),
    can_end_runs=st.booleans(),
)
sends = st.builds(
    Send,
    rows=st.sampled_from([1, 1, 1, 2, 3, 4]),
    width=st.sampled_from([2, 2, 2, 3]),
    priority=st.integers(0, 4),
    timeout_us=times_us(or_none=True),
    deadline_us=st.sampled_from([*[None] * 6, 0, 1 * MS, 2 * MS, 5 * MS]),
    fails=st.sampled_from([False] * 4 + [True]),
)


@asynccontextmanager
async def playing(setting: Setting, clock: FakeClock) -> AsyncIterator[Witness]:
    """A scheduler with its witness; whatever fails, the instance threads can end."""
    config = ModelConfig(
        name="m",
        max_batch_size=setting.max_batch_size,
        inputs=(TensorConfig("INPUT0", DataType.FP32, (-1,)),),
        outputs=(TensorConfig("OUTPUT0", DataType.FP32, (-1,)),),
        dynamic_batching=setting.batching,
    )
    kind = EndingDoubling if setting.can_end_runs else Doubling
    sessions = [kind() for _ in range(setting.instances)]
    async with running_scheduler(
        config,
        *sessions,
        max_queue_size=setting.max_queue_size,
        clock=clock,
        admission_control=setting.admission,
    ) as (running, statistics):
        assert isinstance(running, SchedulerBase)
        yield Witness(setting, config, Stage(running, sessions, clock), statistics)


async def play(setting: Setting, script: list[Step], ending: str, clock: FakeClock) -> None:
    async with playing(setting, clock) as witness:
        for step in script:
            await witness.step(step)
        scheduler = witness.stage.scheduler
        end = None
        if ending == "drain":
            end = asyncio.ensure_future(scheduler.drain())
        if ending == "close":
            end = asyncio.ensure_future(scheduler.close())
            witness.stage.open()
            await end
        else:
            for _ in range(2 * len(witness.sent) + 1):
                await witness.step(Finish(0) if witness.running else Pass(5 * MS))
        assert (scheduler.queued, scheduler.busy) == (0, 0)
        await (end or scheduler.drain())
        assert scheduler._timer is None, "waits for something, and there is nothing"
        witness.judge(closed=ending == "close")


@settings(max_examples=80, deadline=None)
@given(scenes, scripts_of(sends), st.sampled_from(["end", "end", "drain", "close"]))
def test_nothing_is_lost_doubled_reordered_mixed_or_late(
    setting: Setting, script: list[Step], ending: str
) -> None:
    run_stepped(lambda clock: play(setting, script, ending, clock))
