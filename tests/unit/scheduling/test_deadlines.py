"""Due times come in order, and what has left is neither due nor kept."""

from __future__ import annotations

from naiad.scheduling.deadlines import Deadlines, earliest


def test_what_is_due_comes_earliest_first_and_once() -> None:
    deadlines: Deadlines[str] = Deadlines(lambda _: True)
    for when, item in ((30, "c"), (10, "a"), (20, "b"), (10, "also a")):
        deadlines.push(when, item)
    assert deadlines.next_ns() == 10
    assert deadlines.pop_due(20) == ["a", "also a", "b"]
    assert deadlines.pop_due(20) == []
    assert deadlines.next_ns() == 30


def test_what_no_longer_waits_is_forgotten() -> None:
    waiting = {"a", "b"}
    deadlines: Deadlines[str] = Deadlines(waiting.__contains__)
    deadlines.push(10, "a")
    deadlines.push(20, "b")
    waiting.discard("a")
    assert deadlines.next_ns() == 20
    waiting.discard("b")
    assert deadlines.next_ns() is None
    assert deadlines.pop_due(99) == []


def test_the_heap_does_not_grow_with_what_has_left() -> None:
    """Requests with far deadlines that are answered at once leave no trace behind."""
    waiting: set[int] = set()
    deadlines: Deadlines[int] = Deadlines(waiting.__contains__)
    for number in range(10_000):
        waiting.add(number)
        deadlines.push(10**12 + number, number)
        waiting.discard(number - 5)
    assert len(deadlines) < 200


def test_the_earliest_of_some_times_is_none_only_without_any() -> None:
    assert earliest(3, 2) == earliest(2, 3) == earliest(None, 2) == earliest(2, None) == 2
    assert earliest(0, 1) == 0
    assert earliest(None, None) is None
