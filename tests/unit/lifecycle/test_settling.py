"""A change counts when two looks far enough apart found the same, whatever the times of the files."""

from __future__ import annotations

from naiad.lifecycle.settling import Settling

QUIET_NS = 1_000


def test_without_a_quiet_period_every_change_counts_at_once() -> None:
    settling: Settling[str] = Settling(0)
    assert settling.settle({"m": 1, "n": 1}, 5) == {"m", "n"}
    assert settling.due_ns is None


def test_a_change_counts_once_it_looked_the_same_for_the_quiet_period() -> None:
    settling: Settling[str] = Settling(QUIET_NS)
    assert settling.settle({"m": 1}, 0) == set()
    assert settling.due_ns == QUIET_NS
    assert settling.settle({"m": 1}, QUIET_NS - 1) == set()  # a look in between does not put it off
    assert settling.settle({"m": 1}, QUIET_NS) == {"m"}
    assert not settling.waiting
    assert settling.due_ns is None


def test_each_look_that_finds_something_else_begins_the_quiet_period_anew() -> None:
    settling: Settling[str] = Settling(QUIET_NS)
    settling.settle({"m": 1, "n": 7}, 0)
    assert settling.settle({"m": 2, "n": 7}, QUIET_NS) == {"n"}
    assert settling.due_ns == 2 * QUIET_NS
    assert settling.settle({"m": 2}, 2 * QUIET_NS) == {"m"}


def test_what_is_no_longer_a_change_is_forgotten() -> None:
    """A folder that went and comes again waits again."""
    settling: Settling[str] = Settling(QUIET_NS)
    settling.settle({"m": 1}, 0)
    assert settling.settle({}, QUIET_NS) == set()
    assert settling.due_ns is None
    assert settling.settle({"m": 1}, 2 * QUIET_NS) == set()
