"""How fast the process aside may go."""

from __future__ import annotations

import pytest

from naiad.lifecycle.experiments.aside.pace import WINDOW_S, Backoff, Pace

SECOND = 10**9


def run_greedily(pace: Pace, seconds: float, slice_ns: int) -> list[tuple[int, int]]:
    """(start, CPU time) of what one thread gets that runs whenever it may, looked at once a slice."""
    now, ran = 0, []
    while now < seconds * SECOND:
        wait = pace.run_wait_ns(now)
        if wait:
            now += wait
            continue
        ran.append((now, slice_ns))
        now += slice_ns
        pace.charge(slice_ns, now)
    return ran


@pytest.mark.parametrize("budget", [0.02, 0.25, 0.5, 0.9])
def test_no_second_has_more_than_the_budget_and_what_the_bucket_holds(budget: float) -> None:
    slice_ns = 20_000_000
    ran = run_greedily(Pace(budget, 100, now_ns=0), 10, slice_ns)
    for begin, _ in ran:
        used = sum(took for start, took in ran if begin <= start < begin + SECOND)
        assert used <= budget * (1 + WINDOW_S) * SECOND + slice_ns


@pytest.mark.parametrize("budget", [0.02, 0.25, 0.5, 0.9])
def test_the_budget_is_used_up_by_who_has_enough_to_do(budget: float) -> None:
    ran = run_greedily(Pace(budget, 100, now_ns=0), 20, 20_000_000)
    assert sum(took for _, took in ran) == pytest.approx(budget * 20 * SECOND, rel=0.1)


def test_a_budget_that_is_larger_than_what_can_be_used_never_waits() -> None:
    ran = run_greedily(Pace(2, 100, now_ns=0), 1, 20_000_000)
    assert sum(took for _, took in ran) == SECOND


def test_time_that_was_not_used_is_not_saved_up() -> None:
    pace = Pace(0.5, 100, now_ns=0)
    pace.charge(int(0.5 * WINDOW_S * SECOND), now_ns=60 * SECOND)
    assert pace.run_wait_ns(60 * SECOND) > 0


def test_jobs_begin_no_faster_than_their_rate_however_cheap_they_are() -> None:
    pace = Pace(0.5, 10, now_ns=0)
    assert pace.job_wait_ns(0) == 0
    pace.begin_job(0)
    assert pace.job_wait_ns(0) == SECOND // 10
    assert pace.job_wait_ns(SECOND // 10) == 0


def test_a_budget_that_is_changed_counts_from_then_on() -> None:
    pace = Pace(0.1, 100, now_ns=0)
    pace.charge(SECOND, now_ns=0)
    before = pace.run_wait_ns(0)
    pace.budget_cpus = 1.0
    assert pace.run_wait_ns(0) < before / 5


def test_backing_off_doubles_up_to_its_limit_and_begins_anew() -> None:
    backoff = Backoff(1, 60)
    assert [backoff.take_s() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    backoff.reset()
    assert backoff.take_s() == 1
