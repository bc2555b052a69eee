"""Who has a slot, who waits, who is gone: the table of sequences, with Triton's rules, without a clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.futures import lone_future
from support.sequences import item

from naiad.core.errors import InvalidArgumentError
from naiad.scheduling.queue import PendingRequest
from naiad.scheduling.sequence.table import SequenceTable, Slot

if TYPE_CHECKING:
    from naiad.core.tensors import InferRequest
    from naiad.scheduling.sequence.table import LiveSequence

IDLE_NS = 1_000


def table(groups: int = 1, rows: int = 1) -> SequenceTable:
    return SequenceTable(model="m", groups=groups, rows=rows, max_idle_ns=IDLE_NS)


def pending(request: InferRequest) -> PendingRequest:
    return PendingRequest(request, lone_future(), arrived_ns=0)


def admit(into: SequenceTable, *requests: InferRequest, now_ns: int = 0) -> list[PendingRequest]:
    admitted = [pending(request) for request in requests]
    for each in admitted:
        into.admit(each, now_ns)
    return admitted


def sequence_of(one: PendingRequest) -> LiveSequence:
    assert one.sequence is not None
    return one.sequence


def ready(of: SequenceTable) -> dict[tuple[int, int], str]:
    """The next request's id of each (group, row) that could run."""
    return {
        (group, row): sequence.waiting[0].request.request_id
        for group, rows in enumerate(of.ready)
        for row, sequence in sorted(rows.items())
    }


def run_next(of: SequenceTable, group: int = 0, row: int = 0, now_ns: int = 0) -> str:
    sequence = of.ready[group][row]
    taken = of.take(sequence)
    of.finish(sequence, now_ns)
    return taken.request.request_id


def test_a_request_that_starts_nothing_is_refused_in_tritons_words() -> None:
    of = table()
    with pytest.raises(InvalidArgumentError) as caught:
        of.admit(pending(item(7, 1)), 0)
    assert caught.value.message == (
        "inference request for sequence 7 to model 'm' must specify the START flag on the first request of "
        "the sequence"
    )
    assert of.waiting == 0
    with pytest.raises(InvalidArgumentError, match="sequence abc to model"):
        of.admit(pending(item("abc", 1)), 0)


def test_a_number_and_a_text_are_two_ids() -> None:
    of = table(rows=2)
    admit(of, item(1, 1, "S"), item("1", 2, "S"))
    assert ready(of) == {(0, 0): "1:1", (0, 1): "1:2"}


def test_sequences_spread_over_groups_lowest_row_first() -> None:
    of = table(groups=2, rows=2)
    first = admit(of, *(item(number, 0, "S") for number in range(1, 5)))
    assert [sequence_of(each).slot for each in first] == [Slot(0, 0), Slot(0, 1), Slot(1, 0), Slot(1, 1)]


def test_a_sequence_has_one_request_running_and_keeps_its_order() -> None:
    of = table()
    admit(of, item(1, 1, "S"), item(1, 2))
    sequence = of.ready[0][0]
    of.take(sequence)
    assert ready(of) == {}
    admit(of, item(1, 3, "E"))
    assert (of.waiting, ready(of)) == (2, {})
    of.finish(sequence, 0)
    assert [run_next(of), run_next(of)] == ["1:2", "1:3"]
    assert ready(of) == {}


def test_without_a_slot_a_sequence_waits_in_the_backlog_first_come_first_served() -> None:
    of = table()
    admit(of, item(1, 1, "S"), item(2, 1, "S"), item(3, 1, "SE"), item(2, 2), item(1, 2, "E"))
    assert ready(of) == {(0, 0): "1:1"}
    assert [run_next(of) for _ in range(4)] == ["1:1", "1:2", "2:1", "2:2"]
    assert ready(of) == {}  # 2 has not ended: it keeps the slot
    admit(of, item(2, 3, "E"))
    assert [run_next(of) for _ in range(2)] == ["2:3", "3:1"]


def test_after_its_end_an_id_is_free_while_the_last_request_still_waits() -> None:
    of = table(rows=2)
    admit(of, item(1, 1, "S"), item(1, 2, "E"), item(1, 3, "S"))
    assert ready(of) == {(0, 0): "1:1", (0, 1): "1:3"}


def test_a_start_on_a_live_id_is_told_and_follows_in_the_same_slot() -> None:
    of = table(rows=2)
    assert of.admit(pending(item(1, 1, "S")), 0)
    assert of.admit(pending(item(1, 2)), 0)
    assert not of.admit(pending(item(1, 3, "S")), 0)
    assert [run_next(of) for _ in range(3)] == ["1:1", "1:2", "1:3"]


def test_an_idle_sequence_ends_and_its_slot_goes_to_the_backlog() -> None:
    of = table()
    admit(of, item(1, 1, "S"), item(2, 1, "S"))
    assert of.next_ns() is None  # nobody is idle who has a request
    assert of.pop_idle(10**9) == []
    run_next(of, now_ns=500)
    assert of.next_ns() == 500 + IDLE_NS
    assert of.pop_idle(499 + IDLE_NS) == []
    assert [sequence.id for sequence in of.pop_idle(500 + IDLE_NS)] == [1]
    assert ready(of) == {(0, 0): "2:1"}
    with pytest.raises(InvalidArgumentError, match="sequence 1 .* START flag"):
        admit(of, item(1, 2))


def test_a_request_keeps_its_sequence_from_idling() -> None:
    of = table()
    admit(of, item(1, 1, "S"))
    run_next(of, now_ns=100)
    admit(of, item(1, 2), now_ns=900)
    assert of.pop_idle(5_000) == []
    run_next(of, now_ns=6_000)
    assert of.next_ns() == 6_000 + IDLE_NS


def test_only_in_the_backlog_a_requests_timeout_ends_its_whole_sequence() -> None:
    of = table()
    admit(of, item(1, 1, "S", timeout_us=1), item(2, 1, "S"), item(2, 2, timeout_us=5), item(3, 1, "SE"))
    assert of.next_ns() == 5_000
    assert of.pop_timed_out(4_999) == []
    assert [each.request.request_id for each in of.pop_timed_out(5_000)] == ["2:1", "2:2"]
    assert (of.waiting, of.next_ns()) == (2, None)
    with pytest.raises(InvalidArgumentError, match="START flag"):
        admit(of, item(2, 3))
    admit(of, item(1, 2, "E"))
    assert [run_next(of) for _ in range(3)] == ["1:1", "1:2", "3:1"]


def test_a_sequence_that_got_its_slot_in_time_has_no_timeout_any_more() -> None:
    of = table()
    admit(of, item(1, 1, "SE"), item(2, 1, "S", timeout_us=1))
    run_next(of)
    assert of.pop_timed_out(10**9) == []
    assert run_next(of) == "2:1"


def test_whoever_leaves_takes_the_later_requests_of_its_sequence_along() -> None:
    of = table(rows=2)
    _, gone, *_ = admit(of, item(1, 1, "S"), item(1, 2), item(1, 3), item(1, 4), item(2, 1, "S"))
    later = of.withdraw(gone, 0)
    assert [each.request.request_id for each in later] == ["1:3", "1:4"]
    assert of.waiting == 2
    assert ready(of) == {(0, 0): "1:1", (0, 1): "2:1"}
    with pytest.raises(InvalidArgumentError, match="START flag"):
        admit(of, item(1, 5))
    assert run_next(of) == "1:1"
    admit(of, item(3, 1, "S"))
    assert ready(of)[0, 0] == "3:1"  # the slot is free again


def test_a_restart_behind_whoever_leaves_is_another_sequence_and_stays() -> None:
    of = table()
    gone, *_ = admit(of, item(1, 1, "S"), item(1, 2), item(1, 3, "S"), item(1, 4))
    assert [each.request.request_id for each in of.withdraw(gone, 0)] == ["1:2"]
    admit(of, item(1, 5, "E"))
    assert [run_next(of) for _ in range(3)] == ["1:3", "1:4", "1:5"]


def test_a_taken_request_that_is_withdrawn_frees_the_slot() -> None:
    """It waited in the batcher, and its caller left before it ran."""
    of = table()
    taken, *_ = admit(of, item(1, 1, "S"), item(1, 2), item(2, 1, "S"))
    of.take(sequence_of(taken))
    assert [each.request.request_id for each in of.withdraw(taken, 0)] == ["1:2"]
    assert ready(of) == {(0, 0): "2:1"}


def test_a_sequence_that_leaves_the_backlog_leaves_no_trace() -> None:
    of = table()
    _, gone, _ = admit(of, item(1, 1, "S"), item(2, 1, "S"), item(3, 1, "S"))
    assert of.withdraw(gone, 0) == []
    admit(of, item(1, 2, "E"))
    assert [run_next(of) for _ in range(3)] == ["1:1", "1:2", "3:1"]


def test_slots_are_counted_not_made_until_they_are_used() -> None:
    of = table(rows=2**31)
    admit(of, item(1, 1, "S"))
    assert ready(of) == {(0, 0): "1:1"}


def test_clearing_takes_what_waits_and_lets_the_running_end() -> None:
    of = table(rows=2)
    admit(of, item(1, 1, "S"), item(1, 2, "E"), item(2, 1, "S"), item(3, 1, "S"))
    running = of.ready[0][0]
    of.take(running)
    assert sorted(each.request.request_id for each in of.clear()) == ["1:2", "2:1", "3:1"]
    assert (of.waiting, ready(of), of.next_ns()) == (0, {}, None)
    of.finish(running, 0)


steps = st.lists(
    st.tuples(
        st.sampled_from(["send", "send", "send", "take", "finish", "withdraw", "time"]),
        st.integers(1, 5),
        st.sampled_from(["", "S", "E", "SE"]),
    ),
    max_size=80,
)


class Witness:
    """Plays a client and an instance against a table, and remembers what became of each request."""

    def __init__(self) -> None:
        self.of = table(groups=2, rows=2)
        self.now = 0
        self.accepted: list[PendingRequest] = []
        self.running: list[PendingRequest] = []
        self.left: list[PendingRequest] = []
        self.ran: list[PendingRequest] = []

    def step(self, what: str, number: int, flags: str) -> None:
        self.now += 50
        getattr(self, what)(number, flags)
        slots = [sequence.slot for rows in self.of.ready for sequence in rows.values()]
        slots += [sequence_of(each).slot for each in self.running]
        assert len(set(slots)) == len(slots)
        assert None not in slots
        assert self.of.waiting == len(self.accepted) - len(self.ran) - len(self.left) - len(self.running)

    def send(self, number: int, flags: str) -> None:
        each = pending(item(number, len(self.accepted), flags, timeout_us=number - 1))
        try:
            self.of.admit(each, self.now)
        except InvalidArgumentError:
            assert "S" not in flags
        else:
            self.accepted.append(each)

    def take(self, number: int, flags: str) -> None:
        could = [sequence for rows in self.of.ready for sequence in rows.values()]
        if could:
            self.running.append(self.of.take(could[number % len(could)]))

    def finish(self, number: int, flags: str) -> None:
        if self.running:
            done = self.running.pop(number % len(self.running))
            self.ran.append(done)
            self.of.finish(sequence_of(done), self.now)

    def withdraw(self, number: int, flags: str) -> None:
        gone = {id(each) for each in (*self.ran, *self.left)}
        waiting = [each for each in self.accepted if id(each) not in gone]
        if waiting:
            each = waiting[number % len(waiting)]
            self.running = [other for other in self.running if other is not each]
            self.left += [each, *self.of.withdraw(each, self.now)]

    def time(self, number: int, flags: str) -> None:
        self.now += number * 400
        self.left += self.of.pop_timed_out(self.now)
        self.of.pop_idle(self.now)
        next_ns = self.of.next_ns()
        assert next_ns is None or next_ns > self.now


@given(steps)
def test_nothing_is_lost_doubled_or_reordered(script: list[tuple[str, int, str]]) -> None:
    """Whatever clients and the clock do: one outcome each, in order, one at a time, and slots for all in the end."""
    witness = Witness()
    for step in script:
        witness.step(*step)
    of = witness.of
    for _ in range(1_000):
        if not of.waiting and not witness.running:
            break
        witness.finish(0, "")
        witness.take(0, "")
        if not any(of.ready) and not witness.running:
            witness.time(5, "")  # the backlog waits for idle sequences to end
    outcomes = [id(each) for each in (*witness.ran, *witness.left)]
    assert sorted(outcomes) == sorted(id(each) for each in witness.accepted)
    for number in range(1, 6):
        ran = [each for each in witness.ran if each.request.sequence_id == number]
        by_sequence: dict[int, list[int]] = {}
        for each in ran:
            position = int(each.request.request_id.split(":")[1])
            by_sequence.setdefault(id(each.sequence), []).append(position)
        assert all(positions == sorted(positions) for positions in by_sequence.values())
    of.clear()
    witness.time(5, "")
    assert not of._live
