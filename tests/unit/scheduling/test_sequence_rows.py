"""Triton's rules for sequences, each with the tests that prove it.

`RULES` lists them; those that stand in other files are not repeated here. Here the clock stands still, and the
loop's timers follow it: what happens at a time happens at that time and not before, by a timer alone.
"""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.schedulers import running_scheduler
from support.sequences import EMPTY, SUM, Row, item, sequence_config, value_of
from support.stepped import Stage, SteppedSession, run_stepped

from naiad.config.sequence_config import DirectStrategy, OldestStrategy
from naiad.core.errors import InvalidArgumentError, UnavailableError
from naiad.scheduling.base import SchedulerBase

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Sequence

    from support.clock import FakeClock

    from naiad.core.tensors import Array, InferResponse, Tensors

UNIT = Path(__file__).resolve().parents[1]
HERE = "scheduling/test_sequence_rows"
DIRECT, OLDEST = "scheduling/sequence/test_direct", "scheduling/sequence/test_oldest"
INPUTS, TABLE = "scheduling/sequence/test_inputs", "scheduling/sequence/test_table"
PROPERTIES = "scheduling/sequence/test_sequence_properties"

RULES = {
    "no id": [(INPUTS, "test_a_request_without_a_sequence_is_refused_in_tritons_words")],
    "a batch of more than one": [(INPUTS, "test_a_batch_is_refused_in_tritons_words")],
    "not started": [(TABLE, "test_a_request_that_starts_nothing_is_refused_in_tritons_words")],
    "START on a live id": [
        (DIRECT, "test_a_start_on_a_live_id_begins_anew_behind_what_waits"),
        (TABLE, "test_a_start_on_a_live_id_is_told_and_follows_in_the_same_slot"),
    ],
    "ids belong to a version; number and text are two": [
        (HERE, "test_each_version_has_ids_of_its_own"),
        (HERE, "test_a_number_and_a_text_are_two_sequences"),
    ],
    "idle": [
        (HERE, "test_an_idle_sequence_ends_at_its_time_and_not_before"),
        (HERE, "test_what_waits_or_runs_keeps_a_sequence_from_idling"),
    ],
    "capacity": [(HERE, "test_as_many_sequences_run_as_there_are_slots")],
    "full: a backlog without a limit of its own, first come first served": [
        (HERE, "test_the_backlog_is_served_in_order_as_slots_become_free"),
    ],
    "a timeout counts in the backlog alone": [
        (HERE, "test_a_timeout_in_the_backlog_is_told_at_its_time"),
        (HERE, "test_without_a_timeout_a_request_waits_in_the_backlog_for_ever"),
        (HERE, "test_a_timeout_means_nothing_to_a_sequence_that_has_its_slot"),
        (TABLE, "test_only_in_the_backlog_a_requests_timeout_ends_its_whole_sequence"),
    ],
    "direct: a slot for life; idle slots are null requests": [
        (DIRECT, "test_a_sequence_keeps_its_row_and_rows_without_a_request_stand_empty"),
        (DIRECT, "test_a_sequence_stays_on_its_instance"),
        (INPUTS, "test_an_empty_row_is_zeros_of_the_same_shape_and_not_ready"),
    ],
    "direct: one batch in flight an instance": [(HERE, "test_direct_has_one_batch_in_flight_an_instance")],
    "direct: a delay needs a utilization": [
        (HERE, "test_direct_waits_only_for_a_utilization"),
        (DIRECT, "test_minimum_slot_utilization_waits_for_more_sequences"),
    ],
    "direct: one shape an execution": [(DIRECT, "test_requests_of_other_shapes_run_apart")],
    "oldest: one request of a sequence in flight": [
        (OLDEST, "test_requests_of_one_sequence_are_never_in_one_batch"),
        (PROPERTIES, "test_each_sequence_runs_in_order_in_its_slot_with_its_state"),
    ],
    "oldest: preferred sizes and delay of the dynamic batcher": [
        (OLDEST, "test_the_queue_delay_gathers_sequences"),
        (HERE, "test_oldest_sends_what_is_there_when_the_delay_is_over"),
    ],
    "oldest: READY is always true": [(HERE, "test_oldest_has_no_row_that_is_not_ready")],
    "oldest: preserve_ordering": [(OLDEST, "test_preserved_order_holds_a_faster_answer_back")],
    "control tensors": [
        (INPUTS, "test_the_flags_of_a_request_become_its_control_tensors"),
        (INPUTS, "test_a_flag_has_the_values_and_the_datatype_of_its_config"),
        (INPUTS, "test_the_id_is_told_in_the_models_datatype"),
        (INPUTS, "test_an_id_of_the_other_kind_is_refused_in_tritons_words"),
        (INPUTS, "test_without_a_batch_dimension_control_tensors_have_none"),
    ],
    "implicit state": [
        (INPUTS, "test_a_state_starts_at_zero_and_is_then_the_last_output"),
        (INPUTS, "test_an_initial_state_is_what_the_config_says"),
        (INPUTS, "test_a_state_is_returned_only_if_it_is_an_output_and_asked_for"),
        (DIRECT, "test_states_go_from_request_to_request_of_their_own_sequence"),
        (OLDEST, "test_states_of_other_shapes_are_not_merged"),
    ],
}

MS = 1_000
"""Microseconds."""
DIRECT_1, OLDEST_1 = DirectStrategy(), OldestStrategy(max_candidate_sequences=1)
BOTH = pytest.mark.parametrize("strategy", [DIRECT_1, OLDEST_1], ids=["direct", "oldest"])

Strategy = DirectStrategy | OldestStrategy


class Echo(SteppedSession):
    """OUTPUT = INPUT, or with a SUM_IN their sum."""

    def answer(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        array = inputs["INPUT"]
        return dict.fromkeys(outputs, np.add(array, inputs["SUM_IN"]) if "SUM_IN" in inputs else array)

    def rows(self) -> list[list[Row]]:
        """The rows of each run."""
        names = ("INPUT", "START", "END", "READY", "CORRID")
        return [
            [Row(*row) for row in zip(*(given[name].reshape(-1).tolist() for name in names), strict=True)]
            for given in self.given
        ]


class Playing(Stage[Echo]):
    """A Stage of sequences of one model."""

    def submit(self, *arguments: Any, **fields: Any) -> asyncio.Future[InferResponse]:
        return self.scheduler.submit(item(*arguments, **fields))

    async def pass_us(self, microseconds: float) -> None:
        self.clock.advance_us(microseconds)
        await self.settle()

    async def finish_all(self) -> None:
        """Let what runs end, and all that follows from it."""
        while self.scheduler.busy:
            for instance in list(self.scheduler._instances.running):
                await self.finish(instance)
            await self.settle()

    def echo(self, index: int = 0) -> Echo:
        return self.session(self.instances[index])


@asynccontextmanager
async def playing(
    clock: FakeClock, strategy: Strategy, *, instances: int = 1, **fields: Any
) -> AsyncIterator[Playing]:
    sessions = [Echo() for _ in range(instances)]
    async with running_scheduler(sequence_config(strategy, **fields), *sessions, clock=clock) as (running, _):
        assert isinstance(running, SchedulerBase)
        yield Playing(running, sessions, clock)


def test_every_rule_names_tests_that_are_there() -> None:
    for file, name in (each for proofs in RULES.values() for each in proofs):
        text = (UNIT / f"{file}.py").read_text(encoding="utf-8")
        assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), f"{file}::{name}"


@BOTH
def test_each_version_has_ids_of_its_own(strategy: Strategy) -> None:
    async def play(clock: FakeClock) -> None:
        async with playing(clock, strategy) as one, playing(clock, strategy) as other:
            answers = [one.submit(7, 1, "S")]
            with pytest.raises(InvalidArgumentError, match="must specify the START flag"):
                other.submit(7, 2)
            answers += [other.submit(7, 3, "S")]
            for each in (one, other):
                await each.settle()
                await each.finish_all()
            assert [value_of(each.result()) for each in answers] == [1, 3]

    run_stepped(play)


@BOTH
def test_a_number_and_a_text_are_two_sequences(strategy: Strategy) -> None:
    async def play(clock: FakeClock) -> None:
        async with playing(clock, strategy, controls=(), states=(SUM,), max_batch_size=2) as stage:
            answers = [stage.submit(7, 1, "S"), stage.submit("7", 10, "S")]
            answers += [stage.submit(7, 2, "E"), stage.submit("7", 20, "E")]
            await stage.settle()
            await stage.finish_all()
            assert [value_of(each.result()) for each in answers] == [1, 10, 3, 30]

    run_stepped(play)


@BOTH
def test_an_idle_sequence_ends_at_its_time_and_not_before(strategy: Strategy) -> None:
    """It gives its slot to the backlog, and what comes later with its id is not started."""

    async def play(clock: FakeClock) -> None:
        async with playing(clock, strategy, max_batch_size=1, max_sequence_idle_us=9 * MS) as stage:
            first = stage.submit(1, 1, "S")
            await stage.settle()
            await stage.pass_us(50 * MS)  # it runs, and the time of a run is no idle time
            await stage.finish_all()
            assert value_of(first.result()) == 1
            waits = stage.submit(2, 2, "S")
            await stage.pass_us(9 * MS - 1)
            assert (stage.scheduler.busy, stage.scheduler.queued) == (0, 1)
            await stage.pass_us(1)
            assert (stage.scheduler.busy, stage.scheduler.queued) == (1, 0)
            with pytest.raises(InvalidArgumentError, match="must specify the START flag"):
                stage.submit(1, 3)
            await stage.finish_all()
            assert value_of(waits.result()) == 2

    run_stepped(play)


@BOTH
def test_what_waits_or_runs_keeps_a_sequence_from_idling(strategy: Strategy) -> None:
    async def play(clock: FakeClock) -> None:
        async with playing(clock, strategy, max_batch_size=1, max_sequence_idle_us=9 * MS) as stage:
            answers = [stage.submit(1, 1, "S"), stage.submit(2, 2, "S")]
            await stage.settle()
            await stage.pass_us(100 * MS)  # 1 runs, 2 waits in the backlog
            await stage.finish_all()
            await stage.pass_us(5 * MS)
            answers.append(stage.submit(1, 3))  # counts from its end anew
            await stage.settle()
            await stage.finish_all()
            await stage.pass_us(5 * MS)
            answers.append(stage.submit(1, 4, "E"))
            await stage.settle()
            await stage.finish_all()
            assert [value_of(each.result()) for each in answers] == [1, 2, 3, 4]

    run_stepped(play)


@pytest.mark.parametrize(
    ("strategy", "max_batch_size", "instances", "slots"),
    [
        (DirectStrategy(), 4, 1, 4),
        (DirectStrategy(), 2, 2, 4),
        (DirectStrategy(), 0, 2, 2),
        (OldestStrategy(max_candidate_sequences=3), 2, 1, 3),
        (OldestStrategy(max_candidate_sequences=1), 4, 2, 2),
        (OldestStrategy(), 4, 1, 4),
    ],
)
def test_as_many_sequences_run_as_there_are_slots(
    strategy: Strategy, max_batch_size: int, instances: int, slots: int
) -> None:
    async def play(clock: FakeClock) -> None:
        async with playing(clock, strategy, instances=instances, max_batch_size=max_batch_size) as stage:
            requests = [item(number, number, "S") for number in range(1, 8)]
            if not max_batch_size:
                for each in requests:
                    each.inputs["INPUT"] = each.inputs["INPUT"][0]
            answers = [stage.scheduler.submit(each) for each in requests]
            await stage.settle()
            await stage.finish_all()
            assert [each.done() for each in answers] == [index < slots for index in range(7)]

    run_stepped(play)


@BOTH
def test_the_backlog_is_served_in_order_as_slots_become_free(strategy: Strategy) -> None:
    async def play(clock: FakeClock) -> None:
        async with playing(clock, strategy, max_batch_size=1) as stage:
            answers = [stage.submit(number, number, flag) for number in range(1, 41) for flag in ("S", "E")]
            assert stage.scheduler.queued == 79
            await stage.settle()
            await stage.finish_all()
            assert all(each.done() for each in answers)
            values = [row.value for run in stage.echo().rows() for row in run]
            assert values == [number for number in range(1, 41) for _ in "SE"]

    run_stepped(play)


@BOTH
def test_a_timeout_in_the_backlog_is_told_at_its_time(strategy: Strategy) -> None:
    async def play(clock: FakeClock) -> None:
        async with playing(clock, strategy, max_batch_size=1) as stage:
            stage.submit(1, 1, "S")
            late, behind = stage.submit(2, 2, "S", timeout_us=3 * MS), stage.submit(2, 3, "E")
            await stage.pass_us(3 * MS - 1)
            assert not late.done()
            await stage.pass_us(1)
            for each in (late, behind):
                error = each.exception()
                assert isinstance(error, UnavailableError)
                assert error.message == "timeout of the corresponding sequence has been expired"

    run_stepped(play)


@BOTH
def test_without_a_timeout_a_request_waits_in_the_backlog_for_ever(strategy: Strategy) -> None:
    async def play(clock: FakeClock) -> None:
        async with playing(clock, strategy, max_batch_size=1) as stage:
            stage.submit(1, 1, "SE")
            waits = stage.submit(2, 2, "SE")
            await stage.pass_us(3_600_000 * MS)
            assert not waits.done()
            await stage.finish_all()
            assert value_of(waits.result()) == 2

    run_stepped(play)


@BOTH
def test_a_timeout_means_nothing_to_a_sequence_that_has_its_slot(strategy: Strategy) -> None:
    async def play(clock: FakeClock) -> None:
        async with playing(clock, strategy, max_batch_size=1) as stage:
            answers = [stage.submit(1, 1, "S"), stage.submit(1, 2, "E", timeout_us=1)]
            await stage.pass_us(3_600_000 * MS)
            await stage.finish_all()
            assert [value_of(each.result()) for each in answers] == [1, 2]

    run_stepped(play)


def test_direct_has_one_batch_in_flight_an_instance() -> None:
    """An instance that runs one sequence lets the other slots' requests wait; another instance does not."""

    async def play(clock: FakeClock) -> None:
        async with playing(clock, DirectStrategy(), instances=2, max_batch_size=2) as stage:
            for number in (1, 2, 3, 4):
                stage.submit(number, number, "S")
            await stage.settle()
            assert (stage.scheduler.busy, stage.scheduler.queued) == (2, 2)
            await stage.finish(stage.instances[0])
            await stage.settle()
            assert (stage.scheduler.busy, stage.scheduler.queued) == (2, 1)
            assert stage.echo(0).rows() == [[Row(1, 1, 0, 1, 1)], [EMPTY, Row(3, 1, 0, 1, 3)]]
            assert stage.echo(1).rows() == [[Row(2, 1, 0, 1, 2)]]

    run_stepped(play)


@pytest.mark.parametrize(("utilization", "runs_at_us"), [(0.0, 0), (0.5, 5 * MS), (0.25, 0)])
def test_direct_waits_only_for_a_utilization(utilization: float, runs_at_us: int) -> None:
    """One of four slots has a request: 0.25 of them."""

    async def play(clock: FakeClock) -> None:
        strategy = DirectStrategy(max_queue_delay_us=5 * MS, minimum_slot_utilization=utilization)
        async with playing(clock, strategy) as stage:
            stage.submit(1, 1, "S")
            if runs_at_us:
                await stage.pass_us(runs_at_us - 1)
                assert stage.scheduler.busy == 0
                await stage.pass_us(1)
            assert stage.scheduler.busy == 1

    run_stepped(play)


def test_oldest_sends_what_is_there_when_the_delay_is_over() -> None:
    async def play(clock: FakeClock) -> None:
        strategy = OldestStrategy(preferred_batch_sizes=(4,), max_queue_delay_us=5 * MS)
        async with playing(clock, strategy) as stage:
            answers = [stage.submit(1, 1, "S")]
            await stage.pass_us(4 * MS)
            answers.append(stage.submit(2, 2, "S"))
            await stage.pass_us(1 * MS - 1)
            assert stage.scheduler.busy == 0
            await stage.pass_us(1)
            await stage.finish_all()
            assert [each.result().batch_reason for each in answers] == ["delay", "delay"]
            assert [len(run) for run in stage.echo().rows()] == [2]

    run_stepped(play)


def test_oldest_has_no_row_that_is_not_ready() -> None:
    async def play(clock: FakeClock) -> None:
        async with playing(clock, OldestStrategy(preferred_batch_sizes=(4,))) as stage:
            for number, flags in ((1, "S"), (2, "S"), (3, "SE"), (2, ""), (1, "E"), (2, "E")):
                stage.submit(number, number, flags)
            await stage.settle()
            await stage.finish_all()
            assert [row.ready for run in stage.echo().rows() for row in run] == [1] * 6

    run_stepped(play)
