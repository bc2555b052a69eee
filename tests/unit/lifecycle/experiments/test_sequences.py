"""The intervals are what their definitions say: roots of the wealth, projections of the pairs that are left."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import betaln

from naiad.lifecycle.experiments.sequences import (
    BASELINE_TUNED_FOR,
    LEAST_COUNT,
    NOTHING_KNOWN,
    TUNED_FOR,
    Rate,
    Summary,
    bernoulli_interval,
    mean_difference_interval,
    mean_interval,
    mean_ratio_interval,
    rate_difference_interval,
    tuned_rho_squared,
)

ALPHA = 0.05
RATES = [(0, 1), (0, 40), (3, 40), (40, 40), (12.25, 300), (1, 100_000), (7_000, 10_000), (0.5, 1)]


def log_wealth(successes: float, trials: float, truth: float) -> float:
    """The log wealth of the bet against `truth`, from scipy's beta function."""
    failures = trials - successes
    likelihood = (successes * math.log(truth) if successes else 0) + (
        failures * math.log1p(-truth) if failures else 0
    )
    return float(betaln(successes + 0.5, failures + 0.5) - betaln(0.5, 0.5)) - likelihood


@pytest.mark.parametrize(("successes", "trials"), RATES)
@pytest.mark.parametrize("alpha", [0.2, 0.001])
def test_at_the_ends_of_a_rates_interval_the_wealth_is_one_over_alpha(
    successes: float, trials: int, alpha: float
) -> None:
    low, high = bernoulli_interval(successes, trials, alpha)
    assert low <= successes / trials <= high
    assert (
        low == 0 if successes == 0 else log_wealth(successes, trials, low) == pytest.approx(-math.log(alpha))
    )
    if successes == trials:
        assert high == 1
    else:
        assert log_wealth(successes, trials, high) == pytest.approx(-math.log(alpha), rel=1e-6)


def test_nothing_is_known_of_a_rate_without_trials() -> None:
    assert bernoulli_interval(0, 0, ALPHA) == (0, 1)
    low, high = rate_difference_interval(Rate(0, 0), Rate(0, 0), ALPHA)
    assert (low, high) == pytest.approx((-1, 1))


def test_intervals_of_rates_narrow_with_trials_and_widen_with_certainty() -> None:
    widths = [
        high - low for low, high in (bernoulli_interval(n / 10, n, ALPHA) for n in (10, 100, 1_000, 10_000))
    ]
    assert all(later < earlier for earlier, later in pairwise(widths))
    widths = [
        high - low for low, high in (bernoulli_interval(10, 100, alpha) for alpha in (0.5, 0.05, 0.001))
    ]
    assert all(surer > less for less, surer in pairwise(widths))


@pytest.mark.parametrize(
    ("baseline", "candidate"),
    [
        (Rate(9, 9_000), Rate(50, 1_000)),
        (Rate(0, 90), Rate(13, 13)),
        (Rate(30, 100), Rate(35, 100)),
        (Rate(0, 500), Rate(0, 500)),
        (Rate(500, 500), Rate(490, 500)),
        (Rate(3, 7), Rate(2.5, 9)),
    ],
)
def test_a_difference_of_rates_is_the_better_of_two_ways(baseline: Rate, candidate: Rate) -> None:
    """By brute force over a grid of pairs: the union bound's box and the product's region, at alpha / 2 each."""
    wealth = math.log(2 / ALPHA)
    grid = np.linspace(0, 1, 2_001)[1:-1]
    mine, theirs = (np.array([log_wealth(*rate, p) for p in grid]) for rate in (baseline, candidate))
    b, c = np.nonzero(mine[:, None] + theirs[None] < wealth)
    differences = grid[c] - grid[b]
    box_mine, box_theirs = (bernoulli_interval(*rate, ALPHA / 4) for rate in (baseline, candidate))
    low, high = rate_difference_interval(baseline, candidate, ALPHA)
    step = 2 * (grid[1] - grid[0])
    assert low == pytest.approx(max(differences.min(), box_theirs.low - box_mine.high), abs=step)
    assert high == pytest.approx(min(differences.max(), box_theirs.high - box_mine.low), abs=step)


def test_a_difference_of_rates_the_other_way_round_is_its_mirror() -> None:
    low, high = rate_difference_interval(Rate(9, 9_000), Rate(50, 1_000), ALPHA)
    assert rate_difference_interval(Rate(50, 1_000), Rate(9, 9_000), ALPHA) == pytest.approx((-high, -low))


@pytest.mark.parametrize("trials", [10**3, 10**6, 10**9])
def test_large_counts_do_not_cancel(trials: int) -> None:
    """At equal rates the interval shrinks as the root of the trials, to the last digit that matters."""
    low, high = rate_difference_interval(Rate(trials / 10, trials), Rate(trials / 10, trials), ALPHA)
    error = math.sqrt(2 * 0.09 / trials)
    assert 2.5 < high / error < 8
    assert high == pytest.approx(-low, rel=1e-3)


def test_means_have_no_interval_before_the_normal_approximation_may_hold() -> None:
    few, enough = (Summary(count, 1.0, 1.0) for count in (LEAST_COUNT - 1, LEAST_COUNT))
    assert mean_interval(few, ALPHA) == NOTHING_KNOWN
    assert mean_interval(enough, ALPHA) != NOTHING_KNOWN
    for of_two in (mean_difference_interval, mean_ratio_interval):
        assert of_two(few, enough, ALPHA) == of_two(enough, few, ALPHA) == NOTHING_KNOWN


def test_a_means_interval_is_the_published_one() -> None:
    """The formula, written as in the paper."""
    count, variance = 700, 4.0
    rho = math.sqrt(tuned_rho_squared(ALPHA, TUNED_FOR))
    scaled = count * rho**2 + 1
    half = 2 * math.sqrt(2 * scaled / (count**2 * rho**2) * math.log(math.sqrt(scaled) / ALPHA))
    assert mean_interval(Summary(count, 3.0, variance), ALPHA) == pytest.approx((3 - half, 3 + half))


@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_intervals_are_narrowest_where_they_are_tuned_for(alpha: float) -> None:
    """No other tuning gives an interval narrower by more than 1 % at that count."""
    at = Summary(TUNED_FOR, 0.0, 1.0)
    tuned = mean_interval(at, alpha).high
    others = [
        mean_interval(at, alpha, tuned_for=round(TUNED_FOR * factor)).high
        for factor in (0.3, 0.6, 0.9, 1.2, 2, 4)
    ]
    assert tuned <= 1.01 * min(others)
    assert tuned < 0.99 * others[0]


def wealth_of_means(summary: Summary, tuned_for: int, mean: np.ndarray) -> np.ndarray:
    """The log wealth of the normal mixture against each mean."""
    scaled = summary.count * tuned_rho_squared(ALPHA, tuned_for)
    total = summary.count * (summary.mean - mean) / math.sqrt(summary.variance)
    exponent = total**2 * scaled / (2 * summary.count * (scaled + 1))
    return np.asarray(exponent - math.log1p(scaled) / 2)


def test_differences_and_ratios_of_means_are_projections_of_the_pairs_left() -> None:
    baseline, candidate = Summary(9_000, 1.5, 3.0), Summary(1_000, 1.4, 3.0)
    first, second = np.linspace(1.3, 1.7, 2_001), np.linspace(1.0, 1.8, 2_001)
    wealth = (
        wealth_of_means(baseline, BASELINE_TUNED_FOR, first)[:, None]
        + wealth_of_means(candidate, TUNED_FOR, second)[None]
    )
    b, c = np.nonzero(wealth < -math.log(ALPHA))
    differences, ratios = second[c] - first[b], second[c] / first[b]
    found = mean_difference_interval(baseline, candidate, ALPHA)
    assert found == pytest.approx((differences.min(), differences.max()), abs=2e-3)
    assert mean_ratio_interval(baseline, candidate, ALPHA) == pytest.approx(
        (ratios.min(), ratios.max()), abs=2e-3
    )


def test_the_arm_that_has_seen_less_does_not_claim_to_vary_less() -> None:
    """A hundred pictures without a face have no variance; the baseline knows that faces are rare, not absent."""
    baseline, candidate = Summary(9_000, 0.01, 0.0099), Summary(100, 0.0, 0.0)
    assert mean_difference_interval(baseline, candidate, ALPHA).high > 0
    assert mean_ratio_interval(baseline, candidate, ALPHA).high > 1


def test_a_ratio_to_a_mean_that_may_be_zero_has_no_ends() -> None:
    assert mean_ratio_interval(Summary(200, 0.01, 1.0), Summary(200, 0.5, 1.0), ALPHA) == NOTHING_KNOWN
    assert mean_ratio_interval(Summary(200, 0.0, 0.0), Summary(200, 0.0, 0.0), ALPHA) == NOTHING_KNOWN


def test_values_that_never_vary_leave_one_mean() -> None:
    assert mean_interval(Summary(500, 2.0, 0.0), ALPHA) == (2, 2)
    assert mean_ratio_interval(Summary(500, 2.0, 0.0), Summary(500, 3.0, 0.0), ALPHA) == pytest.approx(
        (1.5, 1.5)
    )
