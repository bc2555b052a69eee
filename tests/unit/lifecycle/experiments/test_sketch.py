"""Moments and histograms give what all values would, in memory that does not grow."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from naiad.lifecycle.experiments.sketch import RELATIVE_ERROR, Durations, Moments


def filled(values: np.ndarray) -> Moments:
    moments = Moments()
    for value in values:
        moments.add(float(value))
    return moments


def test_moments_are_numpys() -> None:
    values = np.random.default_rng(1).normal(3, 2, 500)
    moments = filled(values)
    assert (moments.count, moments.mean, moments.total) == pytest.approx((500, values.mean(), values.sum()))
    assert moments.variance == pytest.approx(values.var(ddof=1))


def test_small_variances_far_from_zero_do_not_cancel() -> None:
    """Norms of 20 that differ by a billionth."""
    values = 20 + 1e-9 * np.random.default_rng(2).normal(size=1_000)
    assert filled(values).variance == pytest.approx(1e-18, rel=0.2)


def test_nothing_has_no_mean_and_one_value_no_variance() -> None:
    assert math.isnan(Moments().mean)
    assert filled(np.ones(1)).variance == 0


def test_merged_moments_are_those_of_all() -> None:
    values = np.random.default_rng(3).exponential(size=300)
    merged = filled(values[:100])
    merged.merge(filled(values[100:]))
    merged.merge(Moments())
    into_nothing = Moments()
    into_nothing.merge(merged)
    for moments in (merged, into_nothing):
        assert (moments.mean, moments.variance) == pytest.approx((values.mean(), values.var(ddof=1)))
    assert Moments.of(300, values.sum(), (values**2).sum()).summary.variance == pytest.approx(merged.variance)


def test_quantiles_are_within_their_relative_error_of_the_value_of_that_rank() -> None:
    values = np.sort(np.random.default_rng(4).lognormal(-4, 1.5, 5_001))
    durations = Durations()
    for value in values:
        durations.add(float(value))
    wanted = [0.0, 0.5, 0.9, 0.99, 1.0]
    for found, quantile in zip(durations.quantiles(wanted), wanted, strict=True):
        assert found == pytest.approx(values[round(quantile * 5_000)], rel=RELATIVE_ERROR + 1e-9)
    assert durations.typical_s == pytest.approx(math.exp(np.log(values).mean()))


@pytest.mark.parametrize(
    ("seconds", "counted_as"), [(0.0, 1e-6), (-1.0, 1e-6), (1e9, 3_600), (math.nan, 1e-6)]
)
def test_durations_beyond_the_limits_count_as_the_limits(seconds: float, counted_as: float) -> None:
    durations = Durations()
    durations.add(seconds)
    assert durations.typical_s == pytest.approx(counted_as)
    assert durations.quantiles([0.5]) == pytest.approx([counted_as], rel=0.02)


def test_memory_does_not_grow() -> None:
    durations = Durations()
    before = sys.getsizeof(durations._buckets)
    for value in range(10_000):
        durations.add(value / 1_000)
    assert sys.getsizeof(durations._buckets) == before


def test_merged_durations_are_those_of_all() -> None:
    fast, slow = Durations(), Durations()
    fast.add(0.001)
    slow.add(0.1)
    slow.add(0.1)
    fast.merge(slow)
    assert fast.quantiles([0.0, 1.0]) == pytest.approx([0.001, 0.1], rel=RELATIVE_ERROR)
    assert fast.logs.count == 3
