"""The direct strategy on a running scheduler: rows, empty rows, waiting, states, and what callers are told."""

from __future__ import annotations

import asyncio

import pytest
from support.clock import FakeClock
from support.schedulers import running_scheduler
from support.sequences import EMPTY, POISON, SUM, Row, SequenceSession, item, sequence_config, value_of

from naiad.config.sequence_config import DirectStrategy
from naiad.core.clock import MonotonicClock
from naiad.core.errors import CancelledError, DeadlineExceededError, InvalidArgumentError, UnavailableError
from naiad.telemetry.statistics import FailureReason

HOUR_US = 3_600_000_000


async def test_a_sequence_keeps_its_row_and_rows_without_a_request_stand_empty() -> None:
    session = SequenceSession()
    async with running_scheduler(sequence_config(), session) as (running, statistics):
        first = running.submit(item(1, 10, "S"))
        await session.run_began()
        others = [running.submit(item(number, number * 10, "S")) for number in (2, 3)]
        session.let_go()
        assert value_of(await first) == 10
        await session.run_began()
        session.let_go()
        await asyncio.gather(*others)
        last = running.submit(item(3, 31, "E"))
        await session.run_began()
        session.open()
        answer = await last
        assert (value_of(answer), answer.batch_size) == (31, 3)
        assert session.runs == [
            [Row(10, 1, 0, 1, 1)],
            [EMPTY, Row(20, 1, 0, 1, 2), Row(30, 1, 0, 1, 3)],
            [EMPTY, EMPTY, Row(31, 0, 1, 1, 3)],
        ]
        # As in Triton empty rows count in the size of the batch, and not among the inferences.
        assert (statistics.inference_count, statistics.execution_count) == (4, 3)
        assert sorted(statistics.batches) == [1, 3]


async def test_requests_of_one_sequence_run_one_after_the_other_in_order() -> None:
    session = SequenceSession(gated=False)
    async with running_scheduler(sequence_config(), session) as (running, _):
        flags = ["S", "", "", "", "E"]
        answers = [running.submit(item(7, value, flag)) for value, flag in enumerate(flags)]
        assert [value_of(await answer) for answer in answers] == [0, 1, 2, 3, 4]
        assert [[row.value for row in run] for run in session.runs] == [[0], [1], [2], [3], [4]]


async def test_a_sequence_stays_on_its_instance() -> None:
    left, right = SequenceSession(gated=False), SequenceSession(gated=False)
    config = sequence_config(max_batch_size=1)
    async with running_scheduler(config, left, right) as (running, _):
        for value, flag in enumerate(["S", "", "E"]):
            pair = [running.submit(item(number, value, flag)) for number in (1, 2)]
            await asyncio.gather(*pair)
        ids = [{row.corrid for run in session.runs for row in run} for session in (left, right)]
        assert sorted(ids, key=min) == [{1}, {2}]


async def test_the_backlog_waits_for_a_slot_and_nothing_is_lost() -> None:
    session = SequenceSession(gated=False)
    async with running_scheduler(sequence_config(max_batch_size=2), session) as (running, _):
        answers = []
        for number in range(1, 7):
            answers += [
                running.submit(item(number, 10 * number, "S")),
                running.submit(item(number, number, "E")),
            ]
        assert running.queued == 12 - 1
        values = [value_of(answer) for answer in await asyncio.gather(*answers)]
        assert values == [value for number in range(1, 7) for value in (10 * number, number)]
        assert max(len(run) for run in session.runs) == 2


async def test_an_idle_sequence_is_ended_by_a_timer_and_its_slot_freed() -> None:
    """The waiting sequence gets the slot although nothing else happens."""
    session = SequenceSession(gated=False)
    config = sequence_config(max_batch_size=1, max_sequence_idle_us=3_000)
    async with running_scheduler(config, session) as (running, _):
        await running.submit(item(1, 1, "S"))
        assert value_of(await running.submit(item(2, 2, "SE"))) == 2
        with pytest.raises(InvalidArgumentError, match="sequence 1 to model 'm' must specify the START flag"):
            running.submit(item(1, 2))


async def test_a_request_that_waits_too_long_for_a_slot_is_told_so() -> None:
    session = SequenceSession(gated=False)
    config = sequence_config(max_batch_size=1, max_sequence_idle_us=HOUR_US)
    async with running_scheduler(config, session) as (running, statistics):
        await running.submit(item(1, 1, "S"))
        waiting = [running.submit(item(2, 1, "S", timeout_us=2_000)), running.submit(item(2, 2))]
        for answer in waiting:
            with pytest.raises(UnavailableError) as caught:
                await answer
            assert caught.value.message == "timeout of the corresponding sequence has been expired"
        assert statistics.failures[FailureReason.REJECTED] == 2


async def test_a_start_on_a_live_id_begins_anew_behind_what_waits() -> None:
    session = SequenceSession(gated=False)
    async with running_scheduler(sequence_config(states=(SUM,)), session) as (running, _):
        answers = [
            running.submit(item(1, value, flag)) for value, flag in ((1, "S"), (2, ""), (10, "S"), (20, "E"))
        ]
        assert [value_of(answer) for answer in await asyncio.gather(*answers)] == [1, 3, 10, 30]


async def test_states_go_from_request_to_request_of_their_own_sequence() -> None:
    session = SequenceSession(gated=False)
    async with running_scheduler(sequence_config(states=(SUM,)), session) as (running, _):
        answers = [
            [running.submit(item(number, number * value, flag)) for number in (1, 10, 100)]
            for value, flag in ((1, "S"), (2, ""), (3, "E"))
        ]
        got = [[value_of(await answer) for answer in row] for row in answers]
        assert got == [[1, 10, 100], [3, 30, 300], [6, 60, 600]]


async def test_a_failed_run_fails_one_request_and_leaves_every_state_as_it_was() -> None:
    session = SequenceSession()
    async with running_scheduler(sequence_config(states=(SUM,)), session) as (running, statistics):
        started = [running.submit(item(number, number, "S")) for number in (1, 2)]
        await session.run_began()
        session.open()
        await asyncio.gather(*started)
        good, bad = running.submit(item(1, 10)), running.submit(item(2, POISON))
        after = running.submit(item(2, 20, "E"))
        assert value_of(await good) == 11
        with pytest.raises(InvalidArgumentError, match="does not take this value"):
            await bad
        assert value_of(await after) == 22
        assert statistics.failures[FailureReason.BACKEND] == 1


async def test_in_a_failed_batch_each_sequence_runs_again_alone_and_empty_rows_do_not() -> None:
    session = SequenceSession()
    async with running_scheduler(sequence_config(max_batch_size=3), session) as (running, _):
        blocker = running.submit(item(1, 1, "S"))
        await session.run_began()
        bad, good = running.submit(item(2, POISON, "S")), running.submit(item(3, 3, "S"))
        session.open()
        await blocker
        answer = await good
        assert (value_of(answer), answer.batch_reason) == (3, "retry")
        with pytest.raises(InvalidArgumentError):
            await bad
        assert [[row.value for row in run] for run in session.runs] == [[1], [0, POISON, 3], [POISON], [3]]


async def test_a_caller_that_leaves_in_the_queue_takes_the_rest_of_its_sequence_along() -> None:
    session = SequenceSession()
    async with running_scheduler(sequence_config(), session) as (running, statistics):
        first = running.submit(item(1, 1, "S"))
        await session.run_began()
        leaving, later, other = (
            running.submit(item(*each)) for each in ((1, 2, ""), (1, 3, ""), (2, 9, "S"))
        )
        leaving.cancel()
        with pytest.raises(CancelledError, match="earlier request of the same sequence"):
            await later
        with pytest.raises(InvalidArgumentError, match="START flag"):
            running.submit(item(1, 4))
        session.open()
        assert [value_of(await answer) for answer in (first, other)] == [1, 9]
        assert statistics.failures[FailureReason.CANCELED] == 2


async def test_a_caller_that_leaves_while_it_runs_costs_its_sequence_nothing() -> None:
    session = SequenceSession()
    async with running_scheduler(sequence_config(states=(SUM,)), session) as (running, _):
        leaving = running.submit(item(1, 1, "S"))
        await session.run_began()
        later = running.submit(item(1, 2, "E"))
        leaving.cancel()
        session.open()
        assert value_of(await later) == 3


async def test_a_deadline_in_the_queue_ends_the_sequence_as_a_cancellation_does() -> None:
    session, clock = SequenceSession(), MonotonicClock()
    async with running_scheduler(sequence_config(), session) as (running, _):
        first = running.submit(item(1, 1, "S"))
        await session.run_began()
        late = running.submit(item(1, 2, deadline_ns=clock.now_ns() + 3_000_000))
        later = running.submit(item(1, 3))
        with pytest.raises(DeadlineExceededError):
            await late
        with pytest.raises(CancelledError):
            await later
        session.open()
        assert value_of(await first) == 1


async def test_requests_of_other_shapes_run_apart() -> None:
    session = SequenceSession()
    async with running_scheduler(sequence_config(dims=(-1,)), session) as (running, _):
        blocker = running.submit(item(1, 1, "S"))
        await session.run_began()
        answers = [running.submit(item(2, 2, "S", width=3)), running.submit(item(3, 3, "S"))]
        session.open()
        await asyncio.gather(blocker, *answers)
        assert [[row.value for row in run] for run in session.runs] == [[1], [0, 2], [0, 0, 3]]
        assert answers[0].result().outputs["OUTPUT"].shape == (1, 3)


async def test_minimum_slot_utilization_waits_for_more_sequences() -> None:
    session, clock = SequenceSession(gated=False), FakeClock()
    strategy = DirectStrategy(max_queue_delay_us=HOUR_US, minimum_slot_utilization=0.5)
    config = sequence_config(strategy, max_sequence_idle_us=9 * HOUR_US)
    async with running_scheduler(config, session, clock=clock) as (running, _):
        first = running.submit(item(1, 1, "S"))
        assert (running.queued, session.runs) == (1, [])
        second = running.submit(item(2, 2, "S"))
        answers = await asyncio.gather(first, second)
        assert {answer.batch_reason for answer in answers} == {"utilization"}
        third = running.submit(item(1, 3))
        clock.advance_us(HOUR_US)
        fourth = running.submit(item(1, 4))
        assert (await third).batch_reason == "delay"
        await asyncio.gather(fourth, running.submit(item(2, 5)))
        assert [len(run) for run in session.runs] == [2, 1, 2]


async def test_a_model_without_batches_takes_one_sequence_an_instance() -> None:
    session = SequenceSession(gated=False)
    async with running_scheduler(sequence_config(max_batch_size=0), session) as (running, _):
        answers = [running.submit(item(number, number, "SE")) for number in (1, 2, 3)]
        assert [value_of(await answer) for answer in answers] == [1, 2, 3]
        assert [len(run) for run in session.runs] == [1, 1, 1]


async def test_the_servers_limit_counts_the_backlog() -> None:
    session = SequenceSession()
    config = sequence_config(max_batch_size=1)
    async with running_scheduler(config, session, max_queue_size=2) as (running, _):
        first = running.submit(item(1, 1, "S"))
        await session.run_began()
        running.submit(item(2, 1, "S"))
        running.submit(item(3, 1, "S"))
        with pytest.raises(UnavailableError, match=r"Exceeds maximum queue size: 2 .* \(--max-queue-size\)"):
            running.submit(item(4, 1, "S"))
        session.open()
        await first


async def test_draining_answers_what_was_accepted_though_sequences_have_not_ended() -> None:
    session = SequenceSession(gated=False)
    config = sequence_config(max_sequence_idle_us=HOUR_US)
    async with running_scheduler(config, session) as (running, _):
        answers = [running.submit(item(1, value, flag)) for value, flag in ((1, "S"), (2, ""))]
        await running.drain()
        assert [value_of(answer.result()) for answer in answers] == [1, 2]
        with pytest.raises(UnavailableError, match="stopped accepting"):
            running.submit(item(1, 3))


async def test_closing_fails_what_waits_also_behind_a_running_request() -> None:
    session = SequenceSession()
    async with running_scheduler(sequence_config(max_batch_size=1), session) as (running, _):
        first = running.submit(item(1, 1, "S"))
        await session.run_began()
        waiting = [running.submit(item(*each)) for each in ((1, 2, "E"), (2, 1, "S"))]
        session.open()
        await running.close()
        assert value_of(await first) == 1
        for answer in waiting:
            with pytest.raises(UnavailableError, match="stopped before"):
                await answer
