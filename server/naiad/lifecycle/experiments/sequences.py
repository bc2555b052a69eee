"""Confidence sequences: intervals that hold at every look at once, however often one looks. Pure.

An interval of a textbook holds at one number of requests that was fixed before. Who looks at it every second
and stops when it shows something is wrong far more often than it says. A confidence sequence is wide enough
that, with probability 1 - alpha, the truth lies inside at *all* times.

All are made in one way (Ville, 1939; Robbins, 1970): for each value that may be the truth there is a bet
against it whose wealth is a martingale that starts at 1 if the value is the truth, so with probability 1 -
alpha it never reaches 1 / alpha. The interval holds the values whose bets have not. The wealth of two arms is
the product of theirs, whichever of them a request goes to; differences and ratios are read off the pairs of
values that are left.

    rates          exact at every count: mixture of binomials
    means          asymptotic: after `LEAST_COUNT` values the central limit must have set in
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

LEAST_COUNT = 100
"""Means of fewer values have no interval: too early for a normal approximation."""
TUNED_FOR = 500
"""The count at which intervals of means are narrowest; at a hundred times as many they are 17 % too wide."""
BASELINE_TUNED_FOR = 5_000
"""The same for the arm that is compared with, which mostly has more."""

_STEPS = 100
_CLOSE = 1e-9
_LEAST_BELOW_0 = -1e-12
_MOST_SLOPE = 1e12
_LOG_PI = math.log(math.pi)


class Interval(NamedTuple):
    """From `low` to `high`, both included; infinite where nothing is known."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Summary:
    """What is kept of values: how many, their mean and their variance (the sample's)."""

    count: int
    mean: float
    variance: float


class Rate(NamedTuple):
    """`successes` of `trials`. Fractions of a success count: each trial may be a share from 0 to 1."""

    successes: float
    trials: int


NOTHING_KNOWN = Interval(-math.inf, math.inf)


def bernoulli_interval(successes: float, trials: int, alpha: float) -> Interval:
    """The rates that `successes` of `trials` do not rule out, exact at every number of trials.

    The bet against a rate p is a mixture over Beta(1/2, 1/2) of binomial likelihoods over p's likelihood
    (Robbins, 1970, with the prior of Krichevsky and Trofimov, 1981, which is sharp near 0 and 1). It holds
    for shares from 0 to 1 with mean p, too: x log(q / p) + (1 - x) log((1 - q) / (1 - p)) is at most what a
    coin gives on average, as a^x b^(1-x) <= x a + (1 - x) b (Hoeffding, 1963; "sub-Bernoulli" in Howard et
    al., 2021).

    Args:
        successes: 0 to `trials`, or the sum of shares.
        trials: independent of each other, 0 or more.
        alpha: how likely the truth may ever lie outside, above 0 and below 1.
    """
    rate = Rate(successes, trials)
    wealth = -math.log(alpha)
    low = 0.0 if successes <= 0 else _bound(rate, wealth)
    high = 1.0 if successes >= trials else 1.0 - _bound(_mirrored(rate), wealth)
    return Interval(low, high)


def rate_difference_interval(baseline: Rate, candidate: Rate, alpha: float) -> Interval:
    """The differences (candidate's rate - baseline's) not ruled out, exact at every number of trials.

    What two ways at alpha / 2 each have in common. One takes both rates from intervals of their own (the
    union bound), which is narrower where one arm has far more trials; the other takes the pairs of rates
    against which the product of both bets stays below 2 / alpha, where both rates need not be extreme at
    once.
    """
    mine = bernoulli_interval(*baseline, alpha / 4)
    theirs = bernoulli_interval(*candidate, alpha / 4)
    wealth = math.log(2 / alpha)
    return Interval(
        max(theirs.low - mine.high, -_largest_difference(candidate, baseline, wealth)),
        min(theirs.high - mine.low, _largest_difference(baseline, candidate, wealth)),
    )


def mean_interval(summary: Summary, alpha: float, *, tuned_for: int = TUNED_FOR) -> Interval:
    """The means that are not ruled out, once there are `LEAST_COUNT` values.

    The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2021, theorem 2.2):
    mean +- s sqrt(2 (t r^2 + 1) / (t^2 r^2) log(sqrt(t r^2 + 1) / alpha)), with r from `tuned_for`. It
    promises coverage in the limit only: values whose mean is made by rare giants need more than `LEAST_COUNT`
    of them.
    """
    if summary.count < LEAST_COUNT:
        return NOTHING_KNOWN
    spread, wealth = _spread(summary, alpha, tuned_for)
    half = math.sqrt(2 * spread * (wealth - math.log(alpha)))
    return Interval(summary.mean - half, summary.mean + half)


def mean_difference_interval(baseline: Summary, candidate: Summary, alpha: float) -> Interval:
    """The differences (candidate's mean - baseline's) that are not ruled out.

    The product of both arms' bets (see `mean_interval`): the pairs of means that are left are an ellipse,
    whose extreme differences are those of the means +- sqrt(2 (w1 + w2) wealth).
    """
    if min(baseline.count, candidate.count) < LEAST_COUNT:
        return NOTHING_KNOWN
    first, second, wealth = _two_spreads(baseline, candidate, alpha)
    half = math.sqrt(2 * (first + second) * wealth)
    difference = candidate.mean - baseline.mean
    return Interval(difference - half, difference + half)


def mean_ratio_interval(baseline: Summary, candidate: Summary, alpha: float) -> Interval:
    """The ratios (candidate's mean / baseline's) of positive means that are not ruled out.

    The slopes of the lines through 0 that touch the ellipse of `mean_difference_interval` (as Fieller, 1954,
    has them at one look). Without an upper end while the baseline's mean may be 0.
    """
    if min(baseline.count, candidate.count) < LEAST_COUNT:
        return NOTHING_KNOWN
    first, second, wealth = _two_spreads(baseline, candidate, alpha)
    square = baseline.mean**2 - 2 * wealth * first
    if baseline.mean <= 0 or square <= 0:
        return NOTHING_KNOWN
    middle = baseline.mean * candidate.mean
    root = math.sqrt(max(0.0, middle**2 - square * (candidate.mean**2 - 2 * wealth * second)))
    return Interval((middle - root) / square, (middle + root) / square)


def tuned_rho_squared(alpha: float, tuned_for: int) -> float:
    """The mixture's variance that makes the interval narrowest at `tuned_for` values.

    Exactly it is (-W(-alpha^2 / e) - 1) / n with the lower branch of Lambert's W; this is the
    approximation that the paper of `mean_interval` gives.
    """
    doubled = -2 * math.log(alpha)
    return (doubled + math.log(doubled + 1)) / tuned_for


def _spread(summary: Summary, alpha: float, tuned_for: int) -> tuple[float, float]:
    """(w, c) such that the log wealth against a mean m is (mean - m)^2 / 2w - c."""
    scaled = summary.count * tuned_rho_squared(alpha, tuned_for)
    return summary.variance * (scaled + 1) / (summary.count * scaled), math.log1p(scaled) / 2


def _two_spreads(baseline: Summary, candidate: Summary, alpha: float) -> tuple[float, float, float]:
    """Each arm's w, and the log wealth that both together must not reach.

    The arm with fewer values takes the larger of the two variances: by chance it may not have seen yet what
    is rare, and then claims to know more than it does.
    """
    larger = max(baseline.variance, candidate.variance)
    if baseline.count <= candidate.count:
        baseline = replace(baseline, variance=larger)
    else:
        candidate = replace(candidate, variance=larger)
    first, mine = _spread(baseline, alpha, BASELINE_TUNED_FOR)
    second, theirs = _spread(candidate, alpha, TUNED_FOR)
    return first, second, mine + theirs - math.log(alpha)


def _mirrored(rate: Rate) -> Rate:
    """Failures in place of successes."""
    return Rate(rate.trials - rate.successes, rate.trials)


def _log_mixture(rate: Rate) -> float:
    """The log likelihood under the mixture."""
    failures = rate.trials - rate.successes
    return (
        math.lgamma(rate.successes + 0.5)
        + math.lgamma(failures + 0.5)
        - math.lgamma(rate.trials + 1)
        - _LOG_PI
    )


def _log_wealth(mixture: float, rate: Rate, truth: float) -> float:
    """The log wealth of the bet against `truth`."""
    successes, failures = rate.successes, rate.trials - rate.successes
    if (successes > 0 and truth <= 0) or (failures > 0 and truth >= 1):
        return math.inf
    if successes > 0:
        mixture -= successes * math.log(truth)
    return mixture - failures * math.log1p(-truth) if failures > 0 else mixture


def _bound(rate: Rate, wealth: float) -> float:
    """The lowest rate that is not ruled out; `rate` has a success.

    Newton's method on the rate's logarithm. The log wealth is convex in it, and is reached to the right of
    where we start, without the failures' part: each step stays on the outer side.
    """
    mixture, failures = _log_mixture(rate), rate.trials - rate.successes
    log = min((mixture - wealth) / rate.successes, _LEAST_BELOW_0)
    for _ in range(_STEPS):
        truth = math.exp(log)
        slope = failures * truth / (1 - truth) - rate.successes
        above = mixture - rate.successes * log - failures * math.log1p(-truth) - wealth
        if above <= _CLOSE or slope >= 0:
            break
        log -= above / slope
    return math.exp(log)


def _largest_difference(smaller: Rate, larger: Rate, wealth: float) -> float:
    """The largest (rate of `larger` - rate of `smaller`) of the pairs that are not ruled out.

    At the edge both bets' slopes are the same but for the sign (Lagrange). For a given slope each arm's rate
    is the root of a quadratic, so that one number is looked for: the slope at which the wealth is reached.
    """
    mirrored = _mirrored(smaller)
    mine, theirs = _log_mixture(mirrored), _log_mixture(larger)

    def above(slope: float) -> float:
        up, down = _at_slope(larger, slope), _at_slope(mirrored, slope)
        return _log_wealth(theirs, larger, up) + _log_wealth(mine, mirrored, down) - wealth

    most = _MOST_SLOPE * (1 + smaller.trials + larger.trials)
    slope = _crossing(above, math.sqrt(2 * wealth / (_variance(larger) + _variance(smaller))), most)
    # The smaller rate is at its mirrored place: a - (1 - b).
    return min(1.0, _at_slope(larger, slope) + _at_slope(mirrored, slope) - 1.0)


def _variance(rate: Rate) -> float:
    """About that of the observed rate."""
    failures = rate.trials - rate.successes
    return (rate.successes + 0.5) * (failures + 0.5) / (rate.trials + 1) ** 3


def _at_slope(rate: Rate, slope: float) -> float:
    """The rate p, from the observed one up, where the bet's slope (n p - s) / (p (1 - p)) is `slope`."""
    rest = rate.trials - slope
    root = math.sqrt(rest * rest + 4 * slope * rate.successes)
    if rest > 0:
        return 2 * rate.successes / (rest + root)
    return min(1.0, (root - rest) / (2 * slope))


def _crossing(function: Callable[[float], float], guess: float, most: float) -> float:
    """Where a growing function of positive numbers becomes 0 (method of Illinois); at most `most`."""
    low, high, below = 0.0, guess, -1.0
    while (above := function(high)) < 0:
        low, below, high = high, above, 2 * high
        if high >= most:
            return most
    if not low:
        below = function(low := high / 1024)
        while below >= 0:
            high, above, low = low, below, low / 1024
            below = function(low)
    side = 0
    for _ in range(_STEPS):
        middle = high - above * (high - low) / (above - below) if math.isfinite(above) else (low + high) / 2
        value = function(middle)
        if abs(value) <= _CLOSE or high - low <= _CLOSE * high:
            return high if value < 0 and high - low <= _CLOSE * high else middle
        if value > 0:
            high, above = middle, value
            below = below / 2 if side > 0 else below
            side = 1
        else:
            low, below = middle, value
            above = above / 2 if side < 0 else above
            side = -1
    return high
