"""What is promised of verdicts, tried: false alarms below alpha at every look together, and soon enough a roll-back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from naiad.lifecycle.experiments import simulate
from naiad.lifecycle.experiments.samples import SCENARIOS, Scenario
from naiad.lifecycle.experiments.sequences import (
    Rate,
    Summary,
    bernoulli_interval,
    mean_difference_interval,
    mean_interval,
    mean_ratio_interval,
    rate_difference_interval,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Numbers = npt.NDArray[Any]
    Draw = Callable[[np.random.Generator, int], Numbers]

pytestmark = pytest.mark.slow

ALPHA = 0.05
LOT = 10
RUNS = 150
LOOKS = 150

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
RATES: dict[str, Draw] = {
    "rare": lambda generator, count: 1.0 * (generator.random(count) < 0.001),
    "common": lambda generator, count: 1.0 * (generator.random(count) < 0.3),
}
VALUES: dict[str, Draw] = {
    "log latency of sigma 1": lambda generator, count: generator.standard_normal(count),
    "faces a picture": lambda generator, count: generator.geometric(0.4, count) - 1.0,
    "rare crowds": lambda generator, count: (
        (generator.random(count) < 0.03) * generator.geometric(0.1, count)
    ),
}


def after_each_lot(values: Numbers, lot: int) -> Numbers:
    """Running sums, as they are at each look."""
    return np.asarray(values.reshape(-1, lot).sum(axis=1).cumsum())


def summaries(values: Numbers, lot: int) -> list[Summary]:
    sums, squares = after_each_lot(values, lot), after_each_lot(values**2, lot)
    counts = lot * np.arange(1, len(sums) + 1)
    variances = np.maximum(0, squares - sums**2 / counts) / (counts - 1)
    return [
        Summary(*each)
        for each in zip(counts.tolist(), (sums / counts).tolist(), variances.tolist(), strict=True)
    ]


def share_of_runs(is_wrong: Callable[[np.random.Generator], bool], runs: int = RUNS) -> float:
    return sum(is_wrong(np.random.default_rng([7, run])) for run in range(runs)) / runs


@pytest.mark.parametrize("kind", RATES)
def test_equal_rates_are_rarely_ever_told_apart(kind: str) -> None:
    """Looked at after every lot, at a limit of 0; nine requests of the baseline for each of the candidate."""

    def is_wrong(generator: np.random.Generator) -> bool:
        theirs = after_each_lot(RATES[kind](generator, LOOKS * LOT), LOT)
        mine = after_each_lot(RATES[kind](generator, 9 * LOOKS * LOT), 9 * LOT)
        for look, (successes, others) in enumerate(zip(theirs, mine, strict=True), start=1):
            count = look * LOT
            # The difference itself is always inside: only one above the limit can be surely above it.
            if successes / count > others / (9 * count):
                baseline, candidate = Rate(float(others), 9 * count), Rate(float(successes), count)
                if rate_difference_interval(baseline, candidate, ALPHA).low > 0:
                    return True
        return False

    assert share_of_runs(is_wrong) <= ALPHA


def test_shares_of_faces_have_the_interval_of_a_rate() -> None:
    """Each picture's share of missed faces is 0 to 1 and not yes or no; the interval holds all the same."""

    def is_wrong(generator: np.random.Generator) -> bool:
        faces = generator.geometric(0.4, LOOKS * LOT)
        totals = after_each_lot(generator.binomial(faces, 0.05) / faces, LOT)
        intervals = [
            bernoulli_interval(float(total), look * LOT, ALPHA) for look, total in enumerate(totals, start=1)
        ]
        return any(not low <= 0.05 <= high for low, high in intervals)

    assert share_of_runs(is_wrong) <= ALPHA


@pytest.mark.parametrize("kind", VALUES)
def test_equal_means_are_rarely_ever_told_apart(kind: str) -> None:
    """By their difference and by their ratio, in either direction."""

    def is_wrong(generator: np.random.Generator) -> bool:
        theirs = summaries(VALUES[kind](generator, LOOKS * LOT), LOT)
        mine = summaries(VALUES[kind](generator, 9 * LOOKS * LOT), 9 * LOT)
        for baseline, candidate in zip(mine, theirs, strict=True):
            low, high = mean_difference_interval(baseline, candidate, ALPHA)
            if not low <= 0 <= high:
                return True
            low, high = mean_ratio_interval(baseline, candidate, ALPHA)
            if not low <= 1 <= high:
                return True
        return False

    assert share_of_runs(is_wrong) <= ALPHA


def test_a_mean_is_rarely_ever_outside_its_interval() -> None:
    def is_wrong(generator: np.random.Generator) -> bool:
        intervals = [mean_interval(each, ALPHA) for each in summaries(generator.random(LOOKS * LOT), LOT)]
        return any(not low <= 0.5 <= high for low, high in intervals)

    assert share_of_runs(is_wrong) <= ALPHA


def test_a_test_for_a_fixed_number_is_wrong_far_more_often_if_it_is_looked_at_all_the_time() -> None:
    """Which is why none is used; and these simulations do tell a bad interval."""
    assert simulate.textbook_false_alarms(runs=RUNS, requests=LOOKS * LOT) > 4 * ALPHA


@pytest.mark.parametrize("name", ["at every limit, detector", "at every limit, bad times for both"])
def test_the_whole_guard_rarely_withdraws_what_is_as_good_as_allowed(name: str) -> None:
    """Every limit lies at the truth; all checks together, looked at from the tenth request on."""
    outcome = simulate.simulate(BY_NAME[name], runs=20, requests=500)
    assert outcome.share <= 1 / 20


@pytest.mark.parametrize(
    ("name", "metric", "median", "late"),
    [
        ("fails every request", "error_rate", 20, 20),
        ("every answer holds NaN", "not_finite", 20, 20),
        ("5 % errors", "error_rate", 500, 1_000),
        ("30 % slower, sigma 0.3", "latency", 350, 700),
        ("finds 20 % less, in the shadow", "shadow_missed", 250, 400),
        ("another space, in the shadow", "shadow_cosine", 100, 100),
    ],
)
def test_a_bad_candidate_is_withdrawn_soon(name: str, metric: str, median: int, late: int) -> None:
    """Within so many of its requests in half of the runs, and in all; for the right reason."""
    outcome = simulate.simulate(BY_NAME[name], runs=10, requests=1_500)
    assert outcome.delay(0.5) <= median
    assert outcome.delay(1.0) <= late
    assert max(outcome.metrics, key=outcome.metrics.count) == metric


def test_delays_are_of_all_runs_also_those_that_never_ended() -> None:
    outcome = simulate.Outcome(Scenario("s"), 4, 100, (30, 10, 20), ("latency",) * 3)
    assert (outcome.delay(0.5), outcome.delay(0.75), outcome.share) == (20, 30, 0.75)
    assert outcome.delay(0.95) == float("inf")


def test_the_program_prints_both_tables(capsys: pytest.CaptureFixture[str]) -> None:
    simulate.main(["--runs=2", "--requests=120", "--only=every request"])
    printed = capsys.readouterr().out
    assert "fails every request" in printed
    assert "candidates as good as allowed" in printed
