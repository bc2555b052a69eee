"""A stream's ledger keeps its contract and adds up at any time."""

from __future__ import annotations

from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from naiad.dataplane.frames.contract import Contract, DropReason, FramePolicy, ResultOrder
from naiad.dataplane.frames.ledger import MAX_UNTOLD_DROPS, Entry, FrameLedger

Ledger: TypeAlias = FrameLedger[str, str]
MS = 1_000_000


def latest(max_in_flight: int = 1, **rest: int | None) -> Ledger:
    return FrameLedger(Contract(max_in_flight, FramePolicy.LATEST_WINS, **rest))  # type: ignore[arg-type]


def every(max_in_flight: int, **rest: object) -> Ledger:
    return FrameLedger(Contract(max_in_flight, **rest))  # type: ignore[arg-type]


def may_read(ledger: Ledger) -> bool:
    return ledger.may_read


def must_tell(ledger: Ledger) -> bool:
    return ledger.must_tell


def admit(ledger: Ledger, *frame_ids: int, now_ns: int = 0) -> None:
    for frame_id in frame_ids:
        ledger.admit(frame_id, f"picture {frame_id}", now_ns)


def begin(ledger: Ledger, now_ns: int = 0) -> Entry[str, str]:
    entry = ledger.begin(now_ns)
    assert entry is not None
    return entry


def drain(ledger: Ledger) -> list[int]:
    """Write all that can be written; the ids in their order."""
    ids = []
    while (entry := ledger.take()) is not None:
        ids.append(entry.frame_id)
        ledger.written()
    return ids


def test_every_frame_is_begun_in_order_and_reading_stops_at_the_limit() -> None:
    ledger = every(2)
    admit(ledger, 7, 8)
    assert not may_read(ledger)
    assert (begin(ledger).frame_id, begin(ledger).frame_id) == (7, 8)
    assert ledger.begin(0) is None
    assert not may_read(ledger)


def test_results_that_nobody_reads_count_as_frames_at_once() -> None:
    """A client that stops reading holds its own stream back, for both policies."""
    slow = every(2)
    admit(slow, 1, 2)
    for _ in range(2):
        slow.finish(begin(slow), "made", is_answer=True)
    assert (slow.at_work, slow.unwritten) == (0, 2)
    assert not may_read(slow)
    taken = slow.take()
    assert taken is not None
    assert not may_read(slow)  # it is being written
    slow.written()
    assert may_read(slow)
    newest = latest(2)
    for number in (1, 2):
        admit(newest, number)
        newest.finish(begin(newest), "made", is_answer=True)
    admit(newest, 3, 4)
    assert may_read(newest)  # there is a place to wait
    assert newest.begin(0) is None


def test_a_newer_frame_takes_the_place_of_the_one_that_waits() -> None:
    ledger = latest()
    admit(ledger, 1)
    first = begin(ledger)
    admit(ledger, 2, 3, 4)
    assert ledger.waiting == 1
    ledger.finish(first, "made", is_answer=True)
    assert drain(ledger) == [1]
    assert begin(ledger).frame_id == 4
    assert ledger.tell().dropped == {DropReason.SUPERSEDED: [2, 3]}
    assert ledger.tell().dropped == {}


def test_a_frame_that_waited_too_long_is_dropped_when_chosen_and_by_the_timer() -> None:
    ledger = every(4, max_age_ns=50 * MS)
    admit(ledger, 1)
    admit(ledger, 2, now_ns=20 * MS)
    assert ledger.due_ns == 50 * MS
    assert ledger.begin(50 * MS - 1) is not None
    ledger = every(4, max_age_ns=50 * MS)
    admit(ledger, 1)
    admit(ledger, 2, now_ns=20 * MS)
    assert begin(ledger, 50 * MS).frame_id == 2
    admit(ledger, 3, now_ns=50 * MS)
    assert ledger.expire(100 * MS) == []
    assert ledger.tell().dropped == {DropReason.TOO_OLD: [1, 3]}
    assert ledger.due_ns is None


def test_a_frame_past_its_deadline_has_failed_wherever_it_is() -> None:
    """One at work and one that waits; the result that comes later is not wanted."""
    ledger = every(4, frame_deadline_ns=100 * MS)
    admit(ledger, 1, 2, now_ns=1)
    first = begin(ledger, 1)
    assert first.deadline_ns == ledger.due_ns == 100 * MS + 1
    assert ledger.expire(100 * MS) == []
    assert ledger.expire(100 * MS + 1) == [first]
    assert not ledger.finish(first, "late", is_answer=True)
    assert (ledger.failed, ledger.answered) == (2, 0)
    entries = [ledger.take(), ledger.take()]
    assert [(entry.frame_id, entry.result) for entry in entries if entry] == [(1, None), (2, None)]


def test_frames_that_fail_while_they_wait_do_not_pile_up_for_who_does_not_read() -> None:
    ledger = latest(1, frame_deadline_ns=10 * MS)
    now_ns = 0
    for number in range(10):
        if may_read(ledger):
            admit(ledger, number, now_ns=now_ns)
            if number == 0:
                begin(ledger, now_ns)
        now_ns += 10 * MS
        ledger.expire(now_ns)
    assert ledger.unwritten == 2
    assert not may_read(ledger)


@pytest.mark.parametrize(("order", "written"), [("frames", [1, 2, 3]), ("ready", [3, 1, 2])])
def test_results_leave_in_the_contract_s_order(order: str, written: list[int]) -> None:
    ledger = every(4, order=ResultOrder(order))
    admit(ledger, 1, 2, 3)
    first, second, third = (begin(ledger) for _ in range(3))
    left = []
    for entry in (third, first, second):
        ledger.finish(entry, "made", is_answer=True)
        left += drain(ledger)
    assert left == written


def test_credit_is_what_is_finished_and_the_window() -> None:
    ledger = every(2)
    assert ledger.credit_limit == 2
    admit(ledger, 1)
    ledger.finish(begin(ledger), "made", is_answer=True)
    assert ledger.credit_limit == 2
    assert ledger.take() is not None
    assert ledger.credit_limit == 3  # the message that answers it grants the next one
    newest = latest(2)
    assert newest.credit_limit == 3
    admit(newest, 1, 2, 3)
    assert newest.credit_limit == 5  # two were dropped


def test_drops_ride_on_results_unless_none_will_come() -> None:
    ledger = latest()
    ledger.tell()
    admit(ledger, 1)
    entry = begin(ledger)
    admit(ledger, 2)
    assert not must_tell(ledger)
    admit(ledger, 3)
    assert must_tell(ledger)  # the client has used its credit, and has got more by the drop
    ledger.tell()
    ledger.finish(entry, "made", is_answer=True)
    assert not must_tell(ledger)  # the result carries it
    alone = latest(max_age_ns=MS)
    alone.tell()
    admit(alone, 1)
    alone.expire(MS)
    assert must_tell(alone)
    assert alone.tell().dropped == {DropReason.TOO_OLD: [1]}


def test_drops_that_cannot_be_told_hold_the_stream_back() -> None:
    ledger = latest()
    ledger.tell()
    admit(ledger, 0)
    begin(ledger)
    admit(ledger, *range(1, MAX_UNTOLD_DROPS + 2))
    assert must_tell(ledger)
    assert not may_read(ledger)
    assert len(ledger.tell().dropped[DropReason.SUPERSEDED]) == MAX_UNTOLD_DROPS
    assert may_read(ledger)


contracts = st.builds(
    Contract,
    max_in_flight=st.integers(1, 4),
    policy=st.sampled_from(FramePolicy),
    order=st.sampled_from(ResultOrder),
    max_age_ns=st.none() | st.integers(1, 20),
    frame_deadline_ns=st.none() | st.integers(1, 20),
)


class AnyStream(RuleBasedStateMachine):
    """Any contract, any sequence of events; what a client and a server would see is kept beside the ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger: Ledger | None = None
        self.now_ns = 1
        self.at_work: list[Entry[str, str]] = []
        self.written: list[int] = []
        self.told: list[int] = []
        self.credit = 0
        self.writing = False

    @precondition(lambda self: self.ledger is None)
    @rule(contract=contracts)
    def open(self, contract: Contract) -> None:
        self.ledger = FrameLedger(contract)
        self.tell()

    @precondition(lambda self: self.ledger is not None and self.ledger.may_read)
    @rule()
    def receive(self) -> None:
        assert self.ledger
        self.ledger.admit(self.ledger.received, "", self.now_ns)

    @precondition(lambda self: self.ledger is not None)
    @rule()
    def begin(self) -> None:
        assert self.ledger
        entry = self.ledger.begin(self.now_ns)
        if entry is not None:
            age, deadline_ns = self.ledger.contract.max_age_ns, entry.deadline_ns
            assert age is None or self.now_ns - entry.received_ns < age
            assert deadline_ns is None or deadline_ns > self.now_ns
            self.at_work.append(entry)

    @precondition(lambda self: self.at_work)
    @rule(data=st.data(), is_answer=st.booleans())
    def finish(self, data: st.DataObject, is_answer: bool) -> None:
        assert self.ledger
        entry = self.at_work.pop(data.draw(st.integers(0, len(self.at_work) - 1)))
        was_late = entry.is_finished
        assert self.ledger.finish(entry, "made", is_answer=is_answer) is not was_late

    @precondition(lambda self: self.ledger is not None)
    @rule(passed_ns=st.integers(1, 15))
    def wait(self, passed_ns: int) -> None:
        assert self.ledger
        self.now_ns += passed_ns
        due_ns = self.ledger.due_ns
        before = (self.ledger.failed, self.ledger.dropped_count)
        self.ledger.expire(self.now_ns)
        changed = before != (self.ledger.failed, self.ledger.dropped_count)
        assert changed == (due_ns is not None and due_ns <= self.now_ns)

    @precondition(lambda self: self.ledger is not None and not self.writing)
    @rule()
    def take(self) -> None:
        assert self.ledger
        entry = self.ledger.take()
        if entry is not None:
            self.written.append(entry.frame_id)
            self.writing = True
            self.tell()

    @precondition(lambda self: self.writing)
    @rule()
    def end_writing(self) -> None:
        assert self.ledger
        self.writing = False
        self.ledger.written()

    @precondition(lambda self: self.ledger is not None and self.ledger.must_tell)
    @rule()
    def tell(self) -> None:
        assert self.ledger
        statement = self.ledger.tell()
        for ids in statement.dropped.values():
            self.told += ids
        assert statement.credit_limit >= self.credit
        self.credit = statement.credit_limit

    @invariant()
    def it_adds_up(self) -> None:
        if self.ledger is None:
            return
        ledger, limit = self.ledger, self.ledger.contract.max_in_flight
        finished = ledger.answered + ledger.failed + ledger.dropped_count
        assert ledger.received == ledger.waiting + ledger.at_work + finished
        assert ledger.unwritten == ledger.answered + ledger.failed - len(self.written) + self.writing
        assert ledger.at_work <= limit
        # Of those that failed while they waited there may be one more.
        assert ledger.at_work + ledger.unwritten <= limit + (ledger.contract.window - limit)
        assert ledger.credit_limit >= self.credit
        assert len(set(self.told)) == len(self.told)
        assert not set(self.told) & set(self.written)
        if ledger.contract.order is ResultOrder.FRAMES:
            assert self.written == sorted(self.written)
        if ledger.contract.policy is FramePolicy.LATEST_WINS:
            assert ledger.waiting <= 1

    @invariant()
    def no_client_waits_for_nothing(self) -> None:
        """Who has used its credit gets more: by a result, by a frame that can be begun with, or right now."""
        if self.ledger is None:
            return
        ledger = self.ledger
        if ledger.is_settled:
            assert ledger.credit_limit > ledger.received
        if self.credit <= ledger.received and not ledger.must_tell and not self.writing:
            assert ledger.waiting or ledger.at_work or ledger.unwritten

    def teardown(self) -> None:
        """In the end all is told of, once."""
        if self.ledger is None:
            return
        while not self.ledger.is_settled:
            if self.writing:
                self.end_writing()
            self.begin()
            while self.at_work:
                self.ledger.finish(self.at_work.pop(), "made", is_answer=True)
            self.take()
        self.tell()
        assert sorted(self.told + self.written) == list(range(self.ledger.received))


TestAnyStream = AnyStream.TestCase
TestAnyStream.settings = settings(max_examples=60, stateful_step_count=50)


@given(contracts)
def test_a_client_that_keeps_to_its_credit_is_never_held_back(contract: Contract) -> None:
    """All that it may send from the start can be read, with nothing finished between."""
    ledger: Ledger = FrameLedger(contract)
    for number in range(ledger.tell().credit_limit):
        assert may_read(ledger)
        ledger.admit(number, "", 0)
        ledger.begin(0)
