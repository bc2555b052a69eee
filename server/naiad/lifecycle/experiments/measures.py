"""All that a guard may look at: where a figure is read, its confidence sequence, how it is said. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from naiad.lifecycle.experiments.checks import Compared, Finding, Measure
from naiad.lifecycle.experiments.phrases import Wording
from naiad.lifecycle.experiments.sequences import (
    NOTHING_KNOWN,
    Interval,
    Rate,
    bernoulli_interval,
    mean_difference_interval,
    mean_interval,
    mean_ratio_interval,
    rate_difference_interval,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.lifecycle.experiments.evidence import ArmEvidence, ShadowEvidence
    from naiad.lifecycle.experiments.sketch import Moments
    from naiad.vision.agreement.figures import AnswerTask


def _share(rate: Rate) -> float:
    return rate.successes / rate.trials if rate.trials else math.nan


def _at_most(limit: float) -> tuple[float, float]:
    return -math.inf, limit


def _at_least(limit: float) -> tuple[float, float]:
    return limit, math.inf


def _either_way(limit: float) -> tuple[float, float]:
    return -limit, limit


def _times(limit: float) -> tuple[float, float]:
    return 1 / limit, limit


def _arm(compared: Compared) -> ArmEvidence:
    assert compared.candidate is not None
    return compared.candidate


def _shadow(compared: Compared) -> ShadowEvidence:
    assert compared.shadow is not None
    return compared.shadow


def _rates(read: Callable[[ArmEvidence], Rate]) -> Callable[[Compared, float], Finding]:
    """The difference of a rate between the arms."""

    def find(compared: Compared, alpha: float) -> Finding:
        mine, theirs = read(compared.baseline), read(_arm(compared))
        interval = rate_difference_interval(mine, theirs, alpha)
        return Finding(_share(mine), _share(theirs), _share(theirs) - _share(mine), interval, theirs.trials)

    return find


def _means(read: Callable[[ArmEvidence], Moments]) -> Callable[[Compared, float], Finding]:
    """The difference of a mean between the arms."""

    def find(compared: Compared, alpha: float) -> Finding:
        mine, theirs = read(compared.baseline), read(_arm(compared))
        interval = mean_difference_interval(mine.summary, theirs.summary, alpha)
        return Finding(mine.mean, theirs.mean, theirs.mean - mine.mean, interval, theirs.count)

    return find


def _logs(read: Callable[[ArmEvidence], Moments]) -> Callable[[Compared, float], Finding]:
    """The ratio of geometric means between the arms, of moments of logarithms."""
    of_logs = _means(read)

    def find(compared: Compared, alpha: float) -> Finding:
        logs = of_logs(compared, alpha)
        interval = _exp_both(logs.interval)
        return Finding(_exp(logs.baseline), _exp(logs.candidate), _exp(logs.estimate), interval, logs.count)

    return find


def _drop(read: Callable[[ArmEvidence], Moments]) -> Callable[[Compared, float], Finding]:
    """What part of the baseline's mean the candidate's lacks."""

    def find(compared: Compared, alpha: float) -> Finding:
        mine, theirs = read(compared.baseline), read(_arm(compared))
        low, high = mean_ratio_interval(mine.summary, theirs.summary, alpha)
        ratio = theirs.mean / mine.mean if mine.count and mine.mean > 0 else math.nan
        return Finding(mine.mean, theirs.mean, 1 - ratio, Interval(1 - high, 1 - low), theirs.count)

    return find


def _shadow_rate(compared: Compared, alpha: float) -> Finding:
    failed = _shadow(compared).failed
    interval = bernoulli_interval(*failed, alpha)
    return Finding(math.nan, _share(failed), _share(failed), interval, failed.trials)


def _shares(read: Callable[[ShadowEvidence], Moments]) -> Callable[[Compared, float], Finding]:
    """The mean of a share of each request, exact at every count."""

    def find(compared: Compared, alpha: float) -> Finding:
        values = read(_shadow(compared))
        total = min(max(values.total, 0.0), values.count)
        interval = bernoulli_interval(total, values.count, alpha)
        return Finding(math.nan, values.mean, values.mean, interval, values.count)

    return find


def _cosine(compared: Compared, alpha: float) -> Finding:
    """The mean cosine; (1 + cosine) / 2 is a share."""
    values = _shadow(compared).cosine
    total = min(max((values.total + values.count) / 2, 0.0), values.count)
    low, high = bernoulli_interval(total, values.count, alpha)
    return Finding(math.nan, values.mean, values.mean, Interval(2 * low - 1, 2 * high - 1), values.count)


def _shadow_mean(compared: Compared, alpha: float) -> Finding:
    values = _shadow(compared).score_shift
    return Finding(math.nan, values.mean, values.mean, mean_interval(values.summary, alpha), values.count)


def _shadow_norm(compared: Compared, alpha: float) -> Finding:
    values = _shadow(compared).log_norm_ratio
    interval = _exp_both(mean_interval(values.summary, alpha))
    return Finding(math.nan, _exp(values.mean), _exp(values.mean), interval, values.count)


def _exp_both(interval: Interval) -> Interval:
    return interval if interval == NOTHING_KNOWN else Interval(_exp(interval.low), _exp(interval.high))


def _exp(log: float) -> float:
    return math.inf if log > 700 else math.exp(log)


_DETECT: frozenset[AnswerTask] = frozenset({"detect"})
_EMBED: frozenset[AnswerTask] = frozenset({"embed"})
_TENSORS: frozenset[AnswerTask] = frozenset({"tensors"})

MEASURES: tuple[Measure, ...] = (
    Measure(
        "error_rate",
        "max_error_rate_increase",
        None,
        of_shadow=False,
        find=_rates(lambda arm: arm.errors),
        region=_at_most,
        wording=Wording(
            "error rate", "error rate {candidate} is {range} above {name}'s {baseline}", "points", "part"
        ),
        no_change=0.0,
        failures=lambda compared: _arm(compared).errors,
    ),
    Measure(
        "not_finite",
        "max_error_rate_increase",
        None,
        of_shadow=False,
        find=_rates(lambda arm: arm.broken),
        region=_at_most,
        wording=Wording(
            "answers with NaN or infinity",
            "{candidate} of answers hold NaN or infinity, {range} above {name}'s {baseline}",
            "points",
            "part",
        ),
        no_change=0.0,
        failures=lambda compared: _arm(compared).broken,
    ),
    Measure(
        "latency",
        "max_latency_ratio",
        None,
        of_shadow=False,
        find=_logs(lambda arm: arm.latency.logs),
        region=_at_most,
        wording=Wording(
            "typical latency",
            "typical latency {candidate} is {range} {name}'s {baseline}",
            "ratio",
            "seconds",
        ),
        no_change=1.0,
    ),
    Measure(
        "empty_rate",
        "max_empty_rate_increase",
        _DETECT,
        of_shadow=False,
        find=_rates(lambda arm: arm.empties),
        region=_at_most,
        wording=Wording(
            "answers without a face",
            "{candidate} of answers have no face, {range} above {name}'s {baseline}",
            "points",
            "part",
        ),
    ),
    Measure(
        "faces",
        "max_detections_drop",
        _DETECT,
        of_shadow=False,
        find=_drop(lambda arm: arm.faces),
        region=_at_most,
        wording=Wording(
            "faces a picture",
            "{candidate} faces a picture are {range} fewer than {name}'s {baseline}",
            "part",
            "number",
        ),
    ),
    Measure(
        "score",
        "max_score_shift",
        _DETECT,
        of_shadow=False,
        find=_means(lambda arm: arm.top_score),
        region=_either_way,
        wording=Wording(
            "best score",
            "best score {candidate} is {range} above {name}'s {baseline}",
            "number",
            "number",
            either_way=True,
        ),
    ),
    Measure(
        "norm",
        "max_norm_ratio",
        _EMBED,
        of_shadow=False,
        find=_logs(lambda arm: arm.log_norm),
        region=_times,
        wording=Wording(
            "length of vectors",
            "length of vectors {candidate} is {range} {name}'s {baseline}",
            "ratio",
            "number",
            either_way=True,
        ),
    ),
    Measure(
        "shadow_failures",
        "max_error_rate_increase",
        None,
        of_shadow=True,
        find=_shadow_rate,
        region=_at_most,
        wording=Wording(
            "failures in the shadow",
            "{other} fails on {candidate} ({range}) of what {name} answered",
            "part",
            "part",
        ),
        failures=lambda compared: _shadow(compared).failed,
    ),
    Measure(
        "shadow_missed",
        "max_missed_rate",
        _DETECT,
        of_shadow=True,
        find=_shares(lambda shadow: shadow.missed),
        region=_at_most,
        wording=Wording(
            "missed faces",
            "{other} misses {candidate} ({range}) of {name}'s faces in a picture",
            "part",
            "part",
        ),
    ),
    Measure(
        "shadow_extra",
        "max_extra_rate",
        _DETECT,
        of_shadow=True,
        find=_shares(lambda shadow: shadow.extra),
        region=_at_most,
        wording=Wording(
            "extra faces",
            "{candidate} ({range}) of {other}'s faces in a picture are none of {name}'s",
            "part",
            "part",
        ),
    ),
    Measure(
        "shadow_score",
        "max_score_shift",
        _DETECT,
        of_shadow=True,
        find=_shadow_mean,
        region=_either_way,
        wording=Wording(
            "scores of the same faces",
            "{other}'s scores of the same faces are {candidate} ({range}) above {name}'s",
            "number",
            "number",
            either_way=True,
        ),
    ),
    Measure(
        "shadow_norm",
        "max_norm_ratio",
        _EMBED,
        of_shadow=True,
        find=_shadow_norm,
        region=_times,
        wording=Wording(
            "length of the same vectors",
            "{other}'s vectors of the same faces are {candidate} ({range}) as long as {name}'s",
            "ratio",
            "ratio",
            either_way=True,
        ),
    ),
    Measure(
        "shadow_cosine",
        "min_cosine",
        _EMBED,
        of_shadow=True,
        find=_cosine,
        region=_at_least,
        wording=Wording(
            "cosine of both versions' vectors",
            "the cosine of {other}'s vectors with {name}'s is {candidate} ({range})",
            "number",
            "number",
        ),
    ),
    Measure(
        "shadow_mismatch",
        "max_mismatch_rate",
        _TENSORS,
        of_shadow=True,
        find=_shares(lambda shadow: shadow.mismatched),
        region=_at_most,
        wording=Wording(
            "values beyond tolerance",
            "{candidate} ({range}) of an answer's values differ from {name}'s",
            "part",
            "part",
        ),
    ),
)
"""Everything that a guard may look at, the gravest first. The names and their order are part of reports."""

_REGIONS = {measure.metric: measure.region for measure in MEASURES}


def region_of(metric: str, limit: float) -> tuple[float, float]:
    """The estimates that a limit of this metric allows, from and to; infinite where there is no end."""
    return _REGIONS.get(metric, _at_most)(limit)
