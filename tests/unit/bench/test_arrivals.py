"""An open loop's send times, and percentiles."""

from __future__ import annotations

import math

import numpy as np
from bench.arrivals import percentiles, poisson_offsets_ns


def test_gaps_are_those_of_independent_callers() -> None:
    """Mean and standard deviation of an exponential distribution are equal; a steady rate has none."""
    offsets = poisson_offsets_ns(1_000, 20, seed=1)
    gaps = np.diff(offsets) / 1e9
    assert abs(len(offsets) / 20 - 1_000) < 30
    assert abs(gaps.std() / gaps.mean() - 1) < 0.05
    assert offsets == sorted(offsets)
    assert offsets[-1] < 20e9


def test_the_same_seed_asks_every_server_at_the_same_moments() -> None:
    assert poisson_offsets_ns(50, 2, seed=3) == poisson_offsets_ns(50, 2, seed=3)
    assert poisson_offsets_ns(50, 2, seed=3) != poisson_offsets_ns(50, 2, seed=4)


def test_a_rate_below_one_in_the_time_may_have_no_request() -> None:
    assert poisson_offsets_ns(0.001, 0.01, seed=0) == []


def test_percentiles() -> None:
    assert list(percentiles(list(range(101)))) == [50, 90, 95, 99]
    assert all(math.isnan(value) for value in percentiles([]))
