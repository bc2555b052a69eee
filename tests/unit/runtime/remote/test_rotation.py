"""Whose turn it is among several servers, with a clock of numbers."""

from __future__ import annotations

from naiad.runtime.remote.rotation import FIRST_PAUSE_NS, LONGEST_PAUSE_NS, Rotation


def test_each_server_has_its_turn() -> None:
    rotation = Rotation(3)
    assert [list(rotation.order(0)) for _ in range(4)] == [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]


def test_who_failed_is_asked_last_until_the_pause_is_over() -> None:
    rotation = Rotation(2)
    assert rotation.failed(0, now_ns=0)
    assert list(rotation.order(FIRST_PAUSE_NS - 1)) == [1, 0]
    assert list(rotation.order(FIRST_PAUSE_NS - 1)) == [1, 0]
    assert list(rotation.order(FIRST_PAUSE_NS)) == [0, 1]  # tried again, with a request


def test_pauses_double_up_to_the_longest() -> None:
    rotation = Rotation(2)
    for attempt in range(20):
        assert rotation.failed(0, now_ns=0) is (attempt == 0)  # news only once
    rotation.order(0)
    rotation.order(0)
    assert list(rotation.order(LONGEST_PAUSE_NS - 1)) == [1, 0]
    rotation.order(0)
    assert list(rotation.order(LONGEST_PAUSE_NS)) == [0, 1]


def test_an_answer_ends_the_pause() -> None:
    rotation = Rotation(2)
    rotation.failed(0, now_ns=0)
    assert rotation.is_aside(0)
    assert rotation.answered(0)
    assert not rotation.answered(0)
    assert list(rotation.order(0)) == [0, 1]


def test_where_all_are_set_aside_the_one_whose_pause_ends_first_is_asked() -> None:
    rotation = Rotation(3)
    rotation.failed(0, now_ns=100)
    rotation.failed(1, now_ns=0)
    rotation.failed(2, now_ns=50)
    assert list(rotation.order(200)) == [1, 2, 0]
