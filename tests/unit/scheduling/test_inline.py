"""Runs happen on the event loop's thread only while they are short there, and long ones are tried ever less."""

from __future__ import annotations

from naiad.scheduling.inline import InlinePace

MAX_NS = 100_000
SHORT, LONG = 20_000, 1_000_000


def runs_on_threads(pace: InlinePace, ns: int, limit: int = 100_000) -> int:
    """How many runs of that length happen on threads until one is tried inline."""
    for count in range(limit):
        if pace.inline:
            return count
        pace.ran_on_thread(ns)
    return limit


def runs_inline(pace: InlinePace, ns: int, limit: int = 1_000) -> int:
    for count in range(limit):
        if not pace.inline:
            return count
        if pace.measures_next():
            pace.ran_inline(ns)
        pace.lasted(ns)
    return limit


def test_short_runs_move_to_the_loop_and_stay_there() -> None:
    pace = InlinePace(MAX_NS)
    assert not pace.inline
    assert runs_on_threads(pace, SHORT) == 16
    assert runs_inline(pace, SHORT) == 1_000


def test_long_runs_never_do() -> None:
    assert runs_on_threads(InlinePace(MAX_NS), LONG) == 100_000


def test_one_short_run_among_long_ones_is_enough_for_a_try_as_the_others_may_have_waited() -> None:
    pace = InlinePace(MAX_NS)
    for _ in range(15):
        pace.ran_on_thread(LONG)
    pace.ran_on_thread(SHORT)
    assert pace.inline


def test_runs_that_turn_out_long_go_back_to_threads_within_a_few_and_wait_twice_as_long_each_time() -> None:
    """A model whose waits hid its length: each try costs a few runs, and there are ever fewer tries."""
    pace = InlinePace(MAX_NS)
    pauses = []
    for _ in range(3):
        pauses.append(runs_on_threads(pace, 3 * MAX_NS))
        assert runs_inline(pace, 3 * MAX_NS) <= 8
    assert pauses == [16, 1_024, 2_048]


def test_a_single_long_run_is_forgiven() -> None:
    pace = InlinePace(MAX_NS)
    runs_on_threads(pace, SHORT)
    runs_inline(pace, SHORT, 50)
    pace.ran_inline(50 * LONG)
    assert pace.inline


def test_a_model_that_becomes_slow_is_found_out_though_only_some_runs_are_measured() -> None:
    pace = InlinePace(MAX_NS)
    runs_on_threads(pace, SHORT)
    assert runs_inline(pace, SHORT, 500) == 500
    assert runs_inline(pace, LONG) < 100


def test_a_single_run_on_a_thread_does_not_end_a_series_of_short_inline_runs() -> None:
    """Larger batches still go to threads, and what waited behind one may run there alone."""
    pace = InlinePace(MAX_NS)
    runs_on_threads(pace, SHORT)
    runs_inline(pace, SHORT, 500)
    pace.ran_on_thread(LONG)
    assert pace.inline


def test_cpu_time_is_asked_for_seldom_while_runs_are_short_by_the_clock_and_always_after_a_long_one() -> None:
    pace = InlinePace(MAX_NS)
    runs_on_threads(pace, SHORT)
    runs_inline(pace, SHORT, 100)
    asked = []
    for _ in range(1_024):
        asked.append(pace.measures_next())
        pace.lasted(SHORT)
    assert sum(asked) == 4
    pace.lasted(LONG)
    assert pace.measures_next()
