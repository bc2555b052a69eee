"""A model's room goes round among the streams that have a frame waiting."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from naiad.dataplane.frames.fair_share import FORGET_AFTER, FairShare, Seat
from naiad.dataplane.frames.room import Capacity, Cost

if TYPE_CHECKING:
    from collections.abc import Sequence

MS = 1_000_000
SLOW = Cost(1, 100 * MS, 1 * MS)
"""A run of 100 ms, and next to nothing to prepare."""


class Stream:
    """Begins frames when it has some, at most `limit` at once; `begun` is shared by all, in their order."""

    def __init__(self, share: FairShare, begun: deque[Stream], frames: int, limit: int) -> None:
        self.seat = Seat(share, self._turn)
        self.frames = frames
        self.answered = 0
        self._begun = begun
        self._limit = limit
        self._at_work = 0

    def want(self) -> None:
        if self.frames and self._at_work < self._limit:
            self.seat.wait()

    def finish(self, cost: Cost | None = None) -> None:
        self._at_work -= 1
        self.answered += 1
        self.seat.done(cost)
        self.want()

    def _turn(self) -> bool:
        if not self.frames:
            return False
        self.frames -= 1
        self._at_work += 1
        self._begun.append(self)
        self.want()
        return True


def streams(
    share: FairShare, limits: Sequence[int], frames: int = 10_000
) -> tuple[list[Stream], deque[Stream]]:
    begun: deque[Stream] = deque()
    made = [Stream(share, begun, frames, limit) for limit in limits]
    for stream in made:
        stream.want()
    return made, begun


def jain(counts: Sequence[int]) -> float:
    return sum(counts) ** 2 / (len(counts) * sum(count * count for count in counts))


def test_no_more_frames_are_at_work_than_there_is_room_for() -> None:
    share = FairShare(Capacity(instances=2, max_batch=1, delay_ns=0, threads=4))
    _, begun = streams(share, [1] * 5)
    assert (len(begun), share.at_work) == (2, 2)
    begun.popleft().finish(SLOW)
    assert (len(begun), share.at_work) == (2, 2)


def test_a_stream_with_64_in_flight_gets_no_more_than_others() -> None:
    share = FairShare(Capacity(1, 1, 0, 1))
    made, begun = streams(share, [64] + [1] * 49)
    for _ in range(5_000):
        begun.popleft().finish(SLOW)
    answered = [stream.answered for stream in made]
    assert max(answered) <= 1.05 * min(answered)
    assert jain(answered) > 0.9999


def test_one_stream_alone_has_all_of_the_room() -> None:
    share = FairShare(Capacity(4, 1, 0, 1))
    [stream], begun = streams(share, [64])
    assert len(begun) == 4
    stream.finish(SLOW)
    assert share.at_work == 4


def test_a_turn_for_which_there_is_no_frame_goes_to_the_next_stream() -> None:
    share = FairShare(Capacity(1, 1, 0, 1))
    (first, second, third), begun = streams(share, [1] * 3, frames=1)
    second.frames = 0
    first.finish(SLOW)
    assert list(begun) == [first, third]


def test_a_stream_that_leaves_takes_its_place_with_it() -> None:
    share = FairShare(Capacity(1, 1, 0, 1))
    (first, second, third), begun = streams(share, [1] * 3)
    second.seat.leave()
    second.seat.leave()
    first.finish(SLOW)
    assert list(begun) == [first, third]


def test_room_follows_what_runs_take() -> None:
    """Runs that take the same whatever their size: batches grow to the largest; then time by size, and to one."""
    share = FairShare(Capacity(1, 8, 0, 2))
    _, begun = streams(share, [1] * 50)
    assert share.room == 1
    while share.room < 16:
        items = min(8, len(begun))
        for _ in range(items):
            begun.popleft().finish(Cost(items, 10 * MS, MS))
    for _ in range(FORGET_AFTER + 100):
        items = min(8, max(1, share.room - 1))
        begun.popleft().finish(Cost(items, 20 * MS * items, MS // 2))
    assert share.room == 1


def test_a_model_whose_batches_bring_nothing_is_tried_with_few_frames_only() -> None:
    """20 ms an item: two or three in a batch tell enough, and eight never run."""
    share = FairShare(Capacity(1, 8, 0, 2))
    _, begun = streams(share, [1] * 50)
    rooms = []
    for _ in range(100):
        items = min(3, len(begun))
        for _ in range(items):
            begun.popleft().finish(Cost(items, 20 * MS * items, MS // 2))
            rooms.append(share.room)
    assert max(rooms) <= 3
    assert rooms[-1] == 1


def test_a_batch_that_was_quick_once_does_not_make_frames_wait() -> None:
    """Runs of one are measured beside others, and a run of five by chance alone: a fifth quicker an item."""
    share = FairShare(Capacity(2, 8, 0, 2))
    _, begun = streams(share, [1] * 50)
    begun.popleft().finish(Cost(5, 130 * MS, MS // 2))
    for _ in range(200):
        begun.popleft().finish(Cost(1, 32 * MS, MS // 2))
    assert share.room == 2


def test_a_version_loaded_anew_may_have_more_room() -> None:
    share = FairShare(Capacity(1, 1, 0, 1))
    _, begun = streams(share, [1] * 5)
    share.fit(Capacity(3, 1, 0, 1))
    assert len(begun) == 3


@given(st.lists(st.integers(1, 6), min_size=2, max_size=8), st.integers(1, 5), st.data())
def test_nobody_gets_two_turns_while_another_waits_for_one(
    limits: list[int], instances: int, data: st.DataObject
) -> None:
    """Whatever finishes when."""
    share = FairShare(Capacity(instances, 1, 0, 1))
    made, begun = streams(share, limits)
    since: dict[Stream, Counter[Stream]] = {}
    for _ in range(60):
        waiting = [stream for stream in made if stream.seat.is_waiting]
        begun.rotate(-data.draw(st.integers(0, len(begun) - 1)))
        before = len(begun) - 1
        begun.popleft().finish()
        turns = Counter(list(begun)[before:])
        # A stream that had a turn waits anew, if it waits.
        since = {stream: since.get(stream, Counter()) + turns for stream in waiting if not turns[stream]}
        assert all(count <= 1 for counts in since.values() for count in counts.values())
    assert share.at_work == min(instances, sum(limits))
