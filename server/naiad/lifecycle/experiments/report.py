"""An experiment's report: plain figures that travel as JSON. `report_text` shows it.

Figures of each version have intervals of their own at the report's `alpha`, which hold at all times at once
but not for all figures together; the guard's checks, which share one `alpha`, do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from naiad.core.errors import InvalidArgumentError
from naiad.lifecycle.experiments.evidence import ArmEvidence, Outcome, ShadowEvidence, durations_ms, known
from naiad.lifecycle.experiments.guard import Verdict  # noqa: TC001 - pydantic reads it
from naiad.lifecycle.experiments.sequences import Interval, Rate, bernoulli_interval, mean_interval

if TYPE_CHECKING:
    from naiad.lifecycle.experiments.sketch import Moments

DEFAULT_ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, its confidence sequence, and how many observations it is of; None where nothing is known."""

    value: float | None
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True, slots=True)
class ArmReport:
    """What one version answered.

    `role` is "baseline", "candidate" or "shadow", `share` the part of the requests that it gets now, 0..1,
    `state` a word on it ("ready", "rolled back"). Latencies are in milliseconds; `typical_ms` is their
    geometric mean. Figures of what answers show are None where the task has none.
    """

    version: int
    role: str
    share: float
    state: str
    ok: int
    errors: int
    callers_faults: int
    cancelled: int
    error_rate: Figure
    typical_ms: Figure
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    looked_into: int
    not_finite: Figure
    empty_rate: Figure | None
    faces: Figure | None
    score: Figure | None
    norm: Figure | None


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """How far a shadowed candidate agrees with the baseline; figures are None where the task has none."""

    version: int
    compared: int
    failures: int
    skipped: int
    failed: Figure
    candidate_p50_ms: float | None
    candidate_p99_ms: float | None
    missed: Figure | None
    extra: Figure | None
    iou: float | None
    landmark_error: float | None
    score_shift: Figure | None
    cosine: Figure | None
    least_cosine: float | None
    norm_ratio: Figure | None
    rank_agreement: float | None
    mismatched: Figure | None
    max_difference: float | None


@dataclass(frozen=True, slots=True)
class CandidateReport:
    """What the guard says of one candidate."""

    version: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class ExperimentReport:
    """All that is known of one experiment.

    `began_at` is in seconds since 1970; `digest` that of its file; `state` one word or sentence on what is in
    force; `notes` further sentences, such as decisions by hand.
    """

    model: str
    experiment: str
    digest: str
    began_at: float
    state: str
    baseline: int
    alpha: float
    arms: tuple[ArmReport, ...]
    shadow: ShadowReport | None = None
    candidates: tuple[CandidateReport, ...] = ()
    notes: tuple[str, ...] = field(default=())


_ADAPTER = TypeAdapter(ExperimentReport)


def arm_report(
    version: int,
    evidence: ArmEvidence,
    *,
    role: str,
    share: float,
    state: str = "ready",
    alpha: float = DEFAULT_ALPHA,
) -> ArmReport:
    """What a version did so far.

    Args:
        version: its number.
        evidence: of it.
        role: "baseline", "candidate" or "shadow".
        share: of the requests, now.
        state: a word on it.
        alpha: of each interval.
    """
    times = durations_ms(evidence.latency)
    faces = evidence.looked_for_faces > 0
    return ArmReport(
        version=version,
        role=role,
        share=share,
        state=state,
        ok=evidence.outcomes[Outcome.OK],
        errors=evidence.outcomes[Outcome.ERROR],
        callers_faults=evidence.outcomes[Outcome.CALLERS_FAULT],
        cancelled=evidence.outcomes[Outcome.CANCELLED],
        error_rate=_rate(evidence.errors, alpha),
        typical_ms=_of_logs(evidence.latency.logs, alpha, 1_000),
        p50_ms=times["p50_ms"],
        p90_ms=times["p90_ms"],
        p99_ms=times["p99_ms"],
        looked_into=evidence.looked_into,
        not_finite=_rate(evidence.broken, alpha),
        empty_rate=_rate(evidence.empties, alpha) if faces else None,
        faces=_mean(evidence.faces, alpha) if faces else None,
        score=_mean(evidence.top_score, alpha) if evidence.top_score.count else None,
        norm=_of_logs(evidence.log_norm, alpha) if evidence.log_norm.count else None,
    )


def shadow_report(version: int, evidence: ShadowEvidence, *, alpha: float = DEFAULT_ALPHA) -> ShadowReport:
    """How far the candidate `version` agrees so far; `alpha` is that of each interval."""
    times, plain = durations_ms(evidence.candidate_time), evidence.to_dict()
    return ShadowReport(
        version=version,
        compared=evidence.compared,
        failures=evidence.failures,
        skipped=evidence.skipped,
        failed=_rate(evidence.failed, alpha),
        candidate_p50_ms=times["p50_ms"],
        candidate_p99_ms=times["p99_ms"],
        missed=_share(evidence.missed, alpha),
        extra=_share(evidence.extra, alpha),
        iou=plain["iou"],
        landmark_error=plain["landmark_error"],
        score_shift=_mean(evidence.score_shift, alpha) if evidence.score_shift.count else None,
        cosine=_cosine(evidence.cosine, alpha),
        least_cosine=plain["least_cosine"],
        norm_ratio=_of_logs(evidence.log_norm_ratio, alpha) if evidence.log_norm_ratio.count else None,
        rank_agreement=plain["rank_agreement"],
        mismatched=_share(evidence.mismatched, alpha),
        max_difference=plain["max_difference"],
    )


def to_json(report: ExperimentReport) -> str:
    """The report as one line of JSON."""
    return _ADAPTER.dump_json(report).decode()


def from_json(text: str | bytes) -> ExperimentReport:
    """The report that `to_json` wrote.

    Raises:
        InvalidArgumentError: it is no such JSON; the message names the field.
    """
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise InvalidArgumentError(f"this is no report of an experiment: {where}: {first['msg']}") from None


def _figure(value: float, interval: Interval, count: int) -> Figure:
    return Figure(known(value), known(interval.low), known(interval.high), count)


def _rate(rate: Rate, alpha: float) -> Figure:
    value = rate.successes / rate.trials if rate.trials else math.nan
    return _figure(value, bernoulli_interval(*rate, alpha), rate.trials)


def _share(values: Moments, alpha: float) -> Figure | None:
    if not values.count:
        return None
    total = min(max(values.total, 0.0), values.count)
    return _figure(values.mean, bernoulli_interval(total, values.count, alpha), values.count)


def _cosine(values: Moments, alpha: float) -> Figure | None:
    if not values.count:
        return None
    total = min(max((values.total + values.count) / 2, 0.0), values.count)
    low, high = bernoulli_interval(total, values.count, alpha)
    return _figure(values.mean, Interval(2 * low - 1, 2 * high - 1), values.count)


def _mean(values: Moments, alpha: float) -> Figure:
    return _figure(values.mean, mean_interval(values.summary, alpha), values.count)


def _of_logs(values: Moments, alpha: float, scale: float = 1.0) -> Figure:
    """The geometric mean, of moments of logarithms."""
    low, high = mean_interval(values.summary, alpha)
    interval = Interval(_exp(low, scale), _exp(high, scale))
    return _figure(_exp(values.mean, scale), interval, values.count)


def _exp(log: float, scale: float) -> float:
    return scale * math.exp(log) if math.isfinite(log) and log < 700 else math.nan
