"""The figures of a run: medians, ratios round by round, what a server adds to bare."""

from __future__ import annotations

from typing import Any

import pytest
from bench.results import Sample, Series, summarise


def sample(rate: float, **changes: Any) -> Sample:
    values: dict[str, Any] = {"p50_us": 1_000.0, "p90_us": 2_000.0, "p99_us": 3_000.0, "client_cpu_us": 100.0}
    return Sample(requests_per_s=rate, **(values | changes))


def bare(*rates: float, callers: int = 2, threads: int = 1, case: str = "c", **changes: Any) -> Series:
    series = Series(case, case, case, "bare", f"{callers} x {threads}", "bare", callers, threads=threads)
    series.samples = {number: sample(rate, **changes) for number, rate in enumerate(rates)}
    return series


def served(*rates: float, level: float = 8, case: str = "c", **changes: Any) -> Series:
    series = Series(case, case, case, "Naiad", f"{level} in flight", "closed", level, client="perf_analyzer")
    values = {"server_cpu_us": 300.0, "batch": 2.5, "memory_mib": 50.0} | changes
    series.samples = {number: sample(rate, **values) for number, rate in enumerate(rates)}
    return series


def test_the_ratio_is_taken_round_by_round() -> None:
    """A machine that gets slower by half in the second round must not change how the two compare."""
    limit, row = summarise([bare(1_000, 500, 250), served(400, 200, 100)])
    assert (limit.ratio, limit.is_limit) == (1.0, True)
    assert row.ratio == pytest.approx(0.4)
    assert row.requests_per_s == 200
    assert row.spread == pytest.approx((400 - 100) / 200)


def test_what_a_server_adds_to_bare() -> None:
    """CPU time is compared with the layout that does most, p50 with one caller of its number of threads."""
    *_, row = summarise(
        [
            bare(500, callers=1, p50_us=2_000.0),
            bare(900, callers=2, p50_us=2_200.0, client_cpu_us=120.0),
            bare(800, callers=1, threads=2, p50_us=1_100.0, client_cpu_us=90.0),
            served(100, level=1, p50_us=2_750.0),
        ]
    )
    assert row.p50_beyond_ms == pytest.approx(0.75)
    assert row.cpu_beyond_us == pytest.approx(180)
    assert (row.batch, row.memory_mib, row.server_cpu_us) == (2.5, 50.0, 300.0)


def test_p50_is_compared_with_bare_for_one_request_in_flight_only() -> None:
    assert summarise([bare(100, callers=1), served(50, level=8)])[1].p50_beyond_ms is None


def test_batches_are_not_the_limit() -> None:
    batches = Series("c", "c", "c", "bare", "2 x 1, batches of 8", "batches", 2, threads=1)
    batches.samples = {0: sample(4_000)}
    limit, batched, row = summarise([bare(1_000), batches, served(500)])
    assert (limit.is_limit, batched.is_limit) == (True, False)
    assert (batched.ratio, row.ratio) == (4.0, 0.5)


def test_a_round_that_failed_is_missing_and_said() -> None:
    series = served(400, 200, 100)
    del series.samples[0]
    series.failures += ["it ended", "it ended"]
    _, row = summarise([bare(1_000, 500, 250), series])
    assert (row.rounds, row.failure) == (2, "it ended")
    assert row.ratio == pytest.approx(0.4)


def test_a_series_that_never_ran_is_a_row_without_figures() -> None:
    series = served()
    series.failures.append("it did not start")
    _, row = summarise([bare(1_000), series])
    assert row.failure == "it did not start"
    assert (row.requests_per_s, row.p50_ms, row.ratio, row.cpu_beyond_us, row.errors) == (
        None,
        None,
        None,
        None,
        0,
    )


def test_each_group_has_its_own_limit() -> None:
    rows = summarise(
        [bare(100, case="a"), served(50, case="a"), bare(1_000, case="b"), served(100, case="b")]
    )
    assert [row.ratio for row in rows] == [1.0, 0.5, 1.0, 0.1]
