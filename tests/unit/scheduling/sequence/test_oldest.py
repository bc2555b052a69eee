"""The oldest strategy on a running scheduler: candidates, merging, one request of a sequence at a time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from support.clock import FakeClock
from support.schedulers import running_scheduler
from support.sequences import POISON, SUM, Row, SequenceSession, item, sequence_config, value_of

from naiad.config.sequence_config import OldestStrategy
from naiad.core.errors import CancelledError, InvalidArgumentError, UnavailableError
from naiad.telemetry.statistics import FailureReason

HOUR_US = 3_600_000_000
PLAIN = OldestStrategy(preferred_batch_sizes=(4,))


async def test_requests_of_different_sequences_share_a_batch_without_empty_rows() -> None:
    session = SequenceSession()
    async with running_scheduler(sequence_config(PLAIN), session) as (running, statistics):
        first = running.submit(item(1, 10, "S"))
        await session.run_began()
        others = [running.submit(item(number, number, "S")) for number in (2, 3)]
        waiting = running.submit(item(1, 11, "E"))
        session.open()
        answers = await asyncio.gather(first, *others, waiting)
        assert [value_of(answer) for answer in answers] == [10, 2, 3, 11]
        assert session.runs == [
            [Row(10, 1, 0, 1, 1)],
            [Row(2, 1, 0, 1, 2), Row(3, 1, 0, 1, 3), Row(11, 0, 1, 1, 1)],
        ]
        assert (statistics.inference_count, statistics.execution_count) == (4, 2)


async def test_requests_of_one_sequence_are_never_in_one_batch() -> None:
    session = SequenceSession(gated=False)
    async with running_scheduler(sequence_config(PLAIN), session, SequenceSession(gated=False)) as (
        running,
        _,
    ):
        flags = ["S", "", "", "E"]
        answers = [running.submit(item(5, value, flag)) for value, flag in enumerate(flags)]
        assert [value_of(answer) for answer in await asyncio.gather(*answers)] == [0, 1, 2, 3]
        assert all(len(run) == 1 for run in session.runs)


async def test_the_next_requests_of_a_batch_go_together_again() -> None:
    """A batch's end makes all its sequences ready before the next batch is formed."""
    session = SequenceSession()
    async with running_scheduler(sequence_config(PLAIN, states=(SUM,)), session) as (running, _):
        blocker = running.submit(item(9, 0, "SE"))
        await session.run_began()
        answers = [
            running.submit(item(number, value, flag))
            for value, flag in ((1, "S"), (2, ""), (3, "E"))
            for number in (1, 2, 3, 4)
        ]
        session.open()
        await blocker
        values = [value_of(answer) for answer in await asyncio.gather(*answers)]
        assert values == [1] * 4 + [3] * 4 + [6] * 4
        assert [len(run) for run in session.runs[1:]] == [4, 4, 4]


async def test_only_the_candidates_run_the_others_wait_in_order() -> None:
    session = SequenceSession(gated=False)
    strategy = OldestStrategy(max_candidate_sequences=2)
    config = sequence_config(strategy, max_sequence_idle_us=HOUR_US)
    async with running_scheduler(config, session) as (running, _):
        started = [running.submit(item(number, number, "S")) for number in (1, 2)]
        await asyncio.gather(*started)
        third, fourth = (running.submit(item(number, number, "SE")) for number in (3, 4))
        assert running.queued == 2
        assert value_of(await running.submit(item(2, 20, "E"))) == 20
        assert [value_of(await answer) for answer in (third, fourth)] == [3, 4]
        assert not [run for run in session.runs if {row.corrid for row in run} == {3, 4}]


async def test_the_queue_delay_gathers_sequences() -> None:
    session, clock = SequenceSession(gated=False), FakeClock()
    strategy = OldestStrategy(preferred_batch_sizes=(2,), max_queue_delay_us=HOUR_US)
    config = sequence_config(strategy, max_sequence_idle_us=9 * HOUR_US)
    async with running_scheduler(config, session, clock=clock) as (running, _):
        first = running.submit(item(1, 1, "S"))
        assert (running.queued, session.runs) == (1, [])
        answers = await asyncio.gather(first, running.submit(item(2, 2, "S")))
        assert {answer.batch_reason for answer in answers} == {"preferred"}
        alone = running.submit(item(1, 3))
        clock.advance_us(HOUR_US)
        later = running.submit(item(1, 4, "E"))
        assert (await alone).batch_reason == "delay"
        clock.advance_us(HOUR_US)
        other = running.submit(item(2, 5, "E"))
        assert value_of(await later) == 4
        assert value_of(await other) == 5


async def test_waiting_behind_ones_own_sequence_counts_as_queue_time() -> None:
    session, clock = SequenceSession(), FakeClock()
    async with running_scheduler(sequence_config(PLAIN), session, clock=clock) as (running, _):
        first = running.submit(item(1, 1, "S"))
        await session.run_began()
        second = running.submit(item(1, 2, "E"))
        clock.advance_us(500)
        session.open()
        await first
        assert (await second).times.queue_ns == 500_000


async def test_preserved_order_holds_a_faster_answer_back() -> None:
    slow, fast = SequenceSession(), SequenceSession()
    config = sequence_config(OldestStrategy(preserve_ordering=True), max_batch_size=1)
    async with running_scheduler(config, fast, slow) as (running, _):
        first = running.submit(item(1, 1, "S"))
        await slow.run_began()
        second = running.submit(item(2, 2, "S"))
        fast.open()
        third = running.submit(item(2, 3, "E"))
        await fast.run_began()
        await fast.run_began()  # the sequence goes on, though its caller has no answer yet
        assert [answer.done() for answer in (second, third)] == [False, False]
        slow.open()
        assert [value_of(await answer) for answer in (first, second, third)] == [1, 2, 3]


async def test_a_caller_that_leaves_in_the_batcher_takes_the_rest_of_its_sequence_along() -> None:
    session = SequenceSession()
    config = sequence_config(PLAIN, max_sequence_idle_us=HOUR_US)
    async with running_scheduler(config, session) as (running, statistics):
        blocker = running.submit(item(9, 1, "S"))
        await session.run_began()
        leaving, later = running.submit(item(1, 1, "S")), running.submit(item(1, 2))
        other = running.submit(item(2, 7, "S"))
        assert running.queued == 3
        leaving.cancel()
        with pytest.raises(CancelledError, match="earlier request of the same sequence"):
            await later
        assert running.queued == 1
        session.open()
        assert [value_of(await answer) for answer in (blocker, other)] == [1, 7]
        with pytest.raises(InvalidArgumentError, match="START flag"):
            running.submit(item(1, 3))
        assert statistics.failures[FailureReason.CANCELED] == 2


async def test_a_caller_that_leaves_while_it_runs_costs_its_sequence_nothing() -> None:
    session = SequenceSession()
    async with running_scheduler(sequence_config(PLAIN, states=(SUM,)), session) as (running, _):
        leaving = running.submit(item(1, 1, "S"))
        await session.run_began()
        later = running.submit(item(1, 2, "E"))
        leaving.cancel()
        session.open()
        assert value_of(await later) == 3


async def test_whoever_left_is_run_again_for_its_sequence_when_its_batch_fails() -> None:
    session = SequenceSession()
    async with running_scheduler(sequence_config(PLAIN, states=(SUM,)), session) as (running, _):
        blocker = running.submit(item(9, 0, "S"))
        await session.run_began()
        leaving, bad = running.submit(item(1, 5, "S")), running.submit(item(2, POISON, "S"))
        session.let_go()
        await blocker
        await session.run_began()
        later = running.submit(item(1, 6, "E"))
        leaving.cancel()
        session.open()
        with pytest.raises(InvalidArgumentError):
            await bad
        assert value_of(await later) == 11


async def test_states_of_other_shapes_are_not_merged() -> None:
    """A state of any size, from two sequences whose initial value has another size than what they hold."""
    wide = replace(SUM, dims=(-1,))
    session = SequenceSession()
    config = sequence_config(PLAIN, dims=(-1,), states=(wide,))
    async with running_scheduler(config, session) as (running, _):
        started = running.submit(item(1, 1, "S", width=3))
        await session.run_began()
        session.let_go()
        await started
        blocker = running.submit(item(9, 0, "S"))
        await session.run_began()
        answers = [running.submit(item(1, 2, "E", width=3)), running.submit(item(2, 2, "S", width=3))]
        session.open()
        await blocker
        outputs = [answer.outputs["OUTPUT"].tolist() for answer in await asyncio.gather(*answers)]
        assert outputs == [[[3, 3, 3]], [[2, 2, 2]]]
        assert [len(run) for run in session.runs] == [1, 1, 1, 1]


async def test_a_model_without_batches_runs_sequences_one_by_one() -> None:
    session = SequenceSession(gated=False)
    async with running_scheduler(sequence_config(PLAIN, max_batch_size=0), session) as (running, _):
        answers = [running.submit(item(number, number, "SE")) for number in (1, 2, 3)]
        assert [value_of(await answer) for answer in answers] == [1, 2, 3]
        assert [len(run) for run in session.runs] == [1, 1, 1]


async def test_closing_fails_what_waits_in_every_place() -> None:
    session = SequenceSession()
    config = sequence_config(OldestStrategy(max_candidate_sequences=2))
    async with running_scheduler(config, session) as (running, _):
        first = running.submit(item(1, 1, "S"))
        await session.run_began()
        places = ((1, 2, "E"), (2, 1, "S"), (3, 1, "S"))  # behind its own, in the batcher, in the backlog
        waiting = [running.submit(item(*each)) for each in places]
        session.open()
        await running.close()
        assert value_of(await first) == 1
        for answer in waiting:
            with pytest.raises(UnavailableError, match="stopped before"):
                await answer
