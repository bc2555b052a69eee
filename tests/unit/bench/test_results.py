"""The figures of a run: rates, medians, ratios round by round."""

from __future__ import annotations

from typing import Any

import pytest
from bench.results import Series, summarise


def window(count: float, **changes: Any) -> dict[str, Any]:
    values = {
        "count": count,
        "seconds": 2.0,
        "own_cpu_us": 100.0 * count,
        "other_cpu_us": 300.0 * count,
        "latencies_us": [1_000] * 99 + [9_000],
        "average_batch": 2.5,
    }
    return values | changes


def test_the_ratio_is_taken_round_by_round() -> None:
    """A machine that gets slower by half in the second round must not change how the two compare."""
    limit = Series("c", "bare", 2, bare=True, is_limit=True)
    served = Series("c", "server", 8, bare=False)
    for factor in (1.0, 0.5, 0.25):
        limit.add(window(1_000 * factor))
        served.add(window(400 * factor))
    bare, row = summarise([limit, served])
    assert bare.ratio == 1.0
    assert row.ratio == pytest.approx(0.4)
    assert row.requests_per_s == pytest.approx(100)
    assert row.spread == pytest.approx((200 - 50) / 100)


def test_figures_are_a_request() -> None:
    limit = Series("c", "bare", 2, bare=True, is_limit=True)
    served = Series("c", "server", 8, bare=False)
    limit.add(window(1_000))
    served.add(window(500))
    bare, row = summarise([limit, served])
    assert (row.caller_cpu_us, row.server_cpu_us, row.average_batch) == (100.0, 300.0, 2.5)
    assert (bare.server_cpu_us, bare.average_batch) == (None, None)
    assert row.p50_ms == 1.0
    assert 1.0 < row.p99_ms < 9.0
    assert row.requests == 100


def test_the_limit_is_the_best_of_its_series_in_each_round() -> None:
    """On the smallest models one caller does more than two, on others two do more: the faster one is the limit."""
    one = Series("c", "bare, 1", 1, bare=True, is_limit=True)
    two = Series("c", "bare, 2", 2, bare=True, is_limit=True)
    batched = Series("c", "bare, batch 8", 2, bare=True)
    served = Series("c", "server", 8, bare=False)
    for first, second in ((1_000, 800), (500, 900)):
        one.add(window(first))
        two.add(window(second, own_cpu_us=150.0 * second))
        batched.add(window(4_000))
        served.add(window(90))
    *_, row = summarise([one, two, batched, served])
    assert row.ratio == pytest.approx((0.09 + 0.1) / 2)
    assert row.cpu_ratio == pytest.approx(100 / 300)


def test_each_case_has_its_own_limit() -> None:
    series = []
    for name, limit, rate in (("a", 100, 50), ("b", 1_000, 100)):
        series += [Series(name, "bare", 2, bare=True, is_limit=True), Series(name, "server", 1, bare=False)]
        series[-2].add(window(limit))
        series[-1].add(window(rate))
    assert [row.ratio for row in summarise(series)] == [1.0, 0.5, 1.0, 0.1]
