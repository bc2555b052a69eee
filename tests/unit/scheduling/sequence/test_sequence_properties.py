"""Whatever clients of sequences do: each request once, in order, one at a time, in its slot, with its own state.

Hypothesis makes up a strategy and a script of requests (STARTs and ENDs in any place), cancellations, ended runs
and passing time. It is played on the real schedulers, direct and oldest, while time stands still between the
steps and the loop's timers follow the same clock; see `test_properties` of the dynamic batcher. After each step
the scheduler is compared with `Witness`, which follows each sequence by itself.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.schedulers import running_scheduler
from support.scripts import MS, Finish, Pass, scripts_of, times_us
from support.sequence_witness import Adding, Send, Setting, Step, Strategy, Witness
from support.sequences import SUM, sequence_config
from support.stepped import Stage, run_stepped

from naiad.config.sequence_config import DirectStrategy, OldestStrategy
from naiad.scheduling.sequence.direct import DirectScheduler
from naiad.scheduling.sequence.oldest import OldestScheduler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.clock import FakeClock

directs = st.builds(
    DirectStrategy,
    max_queue_delay_us=times_us(or_none=True),
    minimum_slot_utilization=st.sampled_from([0.0, 0.5, 1.0]),
)
oldests = st.builds(
    OldestStrategy,
    max_candidate_sequences=st.integers(0, 3),
    preferred_batch_sizes=st.sampled_from([(), (1,), (2,), (1, 3)]),
    max_queue_delay_us=times_us(or_none=True),
    preserve_ordering=st.booleans(),
)
sends = st.builds(
    Send,
    sequence=st.integers(1, 7),
    flags=st.sampled_from(["", "", "", "S", "S", "E", "SE"]),
    timeout_us=st.sampled_from([*[0] * 4, 1 * MS, 2 * MS, 5 * MS]),
    deadline_us=st.sampled_from([*[None] * 12, 1 * MS, 2 * MS, 5 * MS]),
    fails=st.sampled_from([False] * 9 + [True]),
)


@asynccontextmanager
async def playing(setting: Setting, clock: FakeClock) -> AsyncIterator[Witness]:
    config = sequence_config(
        setting.strategy,
        max_batch_size=setting.max_batch_size,
        max_sequence_idle_us=setting.idle_us,
        states=(SUM,),
    )
    sessions = [Adding() for _ in range(setting.instances)]
    async with running_scheduler(config, *sessions, max_queue_size=1_000, clock=clock) as (running, counts):
        assert isinstance(running, DirectScheduler | OldestScheduler)
        yield Witness(setting, Stage(running, sessions, clock), counts)


async def play(setting: Setting, script: list[Step], clock: FakeClock) -> None:
    async with playing(setting, clock) as witness:
        for step in script:
            await witness.step(step)
        for _ in range(4 * len(witness.sent) + 1):
            await witness.step(Finish(0) if witness.running else Pass(5 * MS))
        await witness.step(Pass(setting.idle_us))
        scheduler = witness.scheduler
        assert (scheduler.queued, scheduler.busy) == (0, 0)
        assert not scheduler._desk.table._live, "a sequence outlives its idle time"
        await scheduler.drain()
        assert scheduler._timer is None, "waits for something, and there is nothing"
        witness.judge()


@pytest.mark.parametrize("strategies", [directs, oldests], ids=["direct", "oldest"])
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_each_sequence_runs_in_order_in_its_slot_with_its_state(
    strategies: st.SearchStrategy[Strategy], data: st.DataObject
) -> None:
    setting = Setting(
        data.draw(strategies),
        data.draw(st.sampled_from([0, 1, 2, 3])),
        data.draw(st.integers(1, 2)),
        data.draw(st.sampled_from([2 * MS, 20 * MS])),
    )
    script = data.draw(scripts_of(sends))
    run_stepped(lambda clock: play(setting, script, clock))
