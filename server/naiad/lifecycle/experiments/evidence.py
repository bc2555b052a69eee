"""What each version did, and how far a shadow agrees: counts and sums in constant memory. Pure.

Belongs to the event loop's thread, as every counter.
"""

from __future__ import annotations

import asyncio
import math
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from naiad.core.errors import (
    AlreadyExistsError,
    CallerFaultError,
    CancelledError,
    InvalidArgumentError,
    NotFoundError,
    UnsupportedError,
)
from naiad.lifecycle.experiments.sequences import Rate
from naiad.lifecycle.experiments.sketch import Durations, Moments
from naiad.vision.agreement import DetectionAgreement, EmbeddingAgreement

if TYPE_CHECKING:
    from naiad.vision.agreement import Agreement, AnswerSigns, TensorAgreement

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
SHORTEST_VECTOR = 1e-12
"""Vectors shorter than this count as this long: lengths are compared by their logarithms."""

_MOST_LOG = 700.0
_CALLERS_FAULTS = (
    AlreadyExistsError,
    CallerFaultError,
    InvalidArgumentError,
    NotFoundError,
    UnsupportedError,
)


class Outcome(IntEnum):
    """How a request ended. Only the first two say anything about the version."""

    OK = 0
    ERROR = 1
    CALLERS_FAULT = 2
    CANCELLED = 3


def outcome_of(error: BaseException | None) -> Outcome:
    """How a request ended that raised `error`, or nothing.

    Deadlines that passed and requests that were shed are the version's errors: a slower one has more of them.
    """
    if error is None:
        return Outcome.OK
    if isinstance(error, CancelledError | asyncio.CancelledError):
        return Outcome.CANCELLED
    return Outcome.CALLERS_FAULT if isinstance(error, _CALLERS_FAULTS) else Outcome.ERROR


class ArmEvidence:
    """What one version answered.

    `outcomes` counts by `Outcome`. `latency` is of requests that a run answered. What was learnt by looking
    into answers comes later and of a part of them: `looked_into` counts those, `rows` their pictures or
    crops, `not_finite` those with a number that is NaN or infinite; `looked_for_faces` those of detectors,
    `empty` those without any face, `faces` per picture of each answer, `top_score` each answer's; `log_norm`
    the logarithm of the mean length of each answer's vectors.
    """

    __slots__ = (
        "empty",
        "faces",
        "latency",
        "log_norm",
        "looked_for_faces",
        "looked_into",
        "not_finite",
        "outcomes",
        "rows",
        "top_score",
    )

    def __init__(self) -> None:
        self.outcomes = [0] * len(Outcome)
        self.latency = Durations()
        self.looked_into = self.rows = self.not_finite = self.looked_for_faces = self.empty = 0
        self.faces = Moments()
        self.top_score = Moments()
        self.log_norm = Moments()

    def record(self, outcome: Outcome, latency_s: float) -> None:
        """Count a request that ended.

        Args:
            outcome: how.
            latency_s: from its arrival to its end; read only if it was answered.
        """
        self.outcomes[outcome] += 1
        if not outcome:
            self.latency.add(latency_s)

    def record_cached(self) -> None:
        """Count a request that a response cache answered: its latency is the cache's.

        Who gets more requests finds more of them there, whichever version is faster.
        """
        self.outcomes[Outcome.OK] += 1

    def record_signs(self, signs: AnswerSigns) -> None:
        """Count what one answer shows, as one observation: faces of one picture are not independent."""
        self.looked_into += 1
        self.rows += signs.rows
        self.not_finite += not signs.is_finite
        if signs.detections is not None and signs.rows > 0:
            self.looked_for_faces += 1
            self.empty += not signs.detections
            self.faces.add(signs.detections / signs.rows)
        if signs.top_score is not None and math.isfinite(signs.top_score):
            self.top_score.add(signs.top_score)
        if signs.norm is not None and math.isfinite(signs.norm):
            self.log_norm.add(math.log(max(signs.norm, SHORTEST_VECTOR)))

    @property
    def answered(self) -> int:
        """Requests whose end says something about the version: answered or failed."""
        return self.outcomes[Outcome.OK] + self.outcomes[Outcome.ERROR]

    @property
    def errors(self) -> Rate:
        """Of what was answered or failed."""
        return Rate(self.outcomes[Outcome.ERROR], self.answered)

    @property
    def empties(self) -> Rate:
        """Answers without a face, of those that were looked into for faces."""
        return Rate(self.empty, self.looked_for_faces)

    @property
    def broken(self) -> Rate:
        """Answers with numbers that are not finite, of those that were looked into."""
        return Rate(self.not_finite, self.looked_into)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers by name; None where there is nothing yet. Times in milliseconds."""
        outcomes = {outcome.name.lower(): self.outcomes[outcome] for outcome in Outcome}
        return {
            **outcomes,
            **durations_ms(self.latency),
            "looked_into": self.looked_into,
            "rows": self.rows,
            "not_finite": self.not_finite,
            "empty": self.empty,
            "faces": known(self.faces.mean),
            "top_score": known(self.top_score.mean),
            "norm": known(math.exp(min(self.log_norm.mean, _MOST_LOG))),
        }


class ShadowEvidence:
    """How far a shadowed candidate agrees with the baseline's answers to the same requests.

    `compared` counts requests that both answered, `not_finite` those of them to which the candidate's answer
    holds numbers that are NaN or infinite, `failures` requests on which the candidate failed, `skipped` those
    that were not sent to it for want of budget. Each request gives one value to each of the moments:
    `missed`, the share of the baseline's faces that the candidate lacks, and `extra`, the share of the
    candidate's that the baseline lacks (where there are any); `score_shift`, `iou` and `landmark_error` of
    the faces that both have; `cosine`, `log_norm_ratio` and `rank_agreement`; `mismatched`, the share of
    values beyond the tolerance. `baseline_faces`, `candidate_faces` and `matched_faces` are totals.
    """

    __slots__ = (
        "baseline_faces",
        "candidate_faces",
        "candidate_time",
        "compared",
        "cosine",
        "disagreement",
        "extra",
        "failures",
        "iou",
        "landmark_error",
        "least_cosine",
        "log_norm_ratio",
        "matched_faces",
        "max_difference",
        "mismatched",
        "missed",
        "not_finite",
        "rank_agreement",
        "score_shift",
        "skipped",
    )

    def __init__(self) -> None:
        self.compared = self.not_finite = self.failures = self.skipped = 0
        self.baseline_faces = self.candidate_faces = self.matched_faces = 0
        self.least_cosine = 1.0
        self.max_difference = 0.0
        self.candidate_time = Durations()
        self.missed, self.extra, self.iou = Moments(), Moments(), Moments()
        self.landmark_error, self.score_shift = Moments(), Moments()
        self.cosine, self.log_norm_ratio, self.rank_agreement = Moments(), Moments(), Moments()
        self.mismatched, self.disagreement = Moments(), Moments()

    def record(
        self, agreement: Agreement, candidate_ms: float | None = None, *, is_finite: bool = True
    ) -> None:
        """Count a request that both versions answered.

        Args:
            agreement: of the two answers.
            candidate_ms: how long the candidate's session ran, aside: not to be compared with latencies.
            is_finite: whether the candidate's answer holds no NaN or infinity; one that does counts as
            failed.
        """
        self.compared += 1
        self.not_finite += not is_finite
        self.disagreement.add(agreement.disagreement)
        if candidate_ms is not None:
            self.candidate_time.add(candidate_ms / 1_000)
        if isinstance(agreement, DetectionAgreement):
            self._record_faces(agreement)
        elif isinstance(agreement, EmbeddingAgreement):
            self._record_vectors(agreement)
        else:
            self._record_tensors(agreement)

    def record_failure(self) -> None:
        """Count a request that the baseline answered and the candidate failed on."""
        self.failures += 1

    def record_skipped(self, count: int = 1) -> None:
        """Count requests that were not sent to the candidate, though they were to be."""
        self.skipped += count

    @property
    def failed(self) -> Rate:
        """The candidate's failures and answers that are not finite, of the requests that it was sent."""
        return Rate(self.failures + self.not_finite, self.failures + self.compared)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers by name; None where there is nothing yet. Times in milliseconds."""
        return {
            "compared": self.compared,
            "not_finite": self.not_finite,
            "failures": self.failures,
            "skipped": self.skipped,
            "baseline_faces": self.baseline_faces,
            "candidate_faces": self.candidate_faces,
            "matched_faces": self.matched_faces,
            "missed": known(self.missed.mean),
            "extra": known(self.extra.mean),
            "iou": known(self.iou.mean),
            "landmark_error": known(self.landmark_error.mean),
            "score_shift": known(self.score_shift.mean),
            "cosine": known(self.cosine.mean),
            "least_cosine": self.least_cosine if self.cosine.count else None,
            "norm_ratio": known(math.exp(min(self.log_norm_ratio.mean, _MOST_LOG))),
            "rank_agreement": known(self.rank_agreement.mean),
            "mismatched": known(self.mismatched.mean),
            "max_difference": self.max_difference if self.mismatched.count else None,
            "disagreement": known(self.disagreement.mean),
            **{f"candidate_{name}": value for name, value in durations_ms(self.candidate_time).items()},
        }

    def _record_faces(self, agreement: DetectionAgreement) -> None:
        self.baseline_faces += agreement.baseline
        self.candidate_faces += agreement.candidate
        self.matched_faces += agreement.matched
        if agreement.baseline:
            self.missed.add(1 - agreement.matched / agreement.baseline)
        if agreement.candidate:
            self.extra.add(1 - agreement.matched / agreement.candidate)
        if agreement.matched:
            self.iou.add(agreement.mean_iou)
            self.score_shift.add(agreement.score_shift)
            if agreement.landmark_error is not None:
                self.landmark_error.add(agreement.landmark_error)

    def _record_vectors(self, agreement: EmbeddingAgreement) -> None:
        if not agreement.rows:
            return
        self.cosine.add(agreement.mean_cosine)
        self.least_cosine = min(self.least_cosine, agreement.min_cosine)
        self.log_norm_ratio.add(math.log(max(agreement.norm_ratio, SHORTEST_VECTOR)))
        if agreement.rank_agreement is not None:
            self.rank_agreement.add(agreement.rank_agreement)

    def _record_tensors(self, agreement: TensorAgreement) -> None:
        if not agreement.values:
            return
        self.mismatched.add(agreement.mismatched / agreement.values)
        self.max_difference = max(self.max_difference, agreement.max_difference)


def durations_ms(durations: Durations) -> dict[str, float | None]:
    """The geometric mean (`typical_ms`) and the quantiles of `QUANTILES`; None where there is nothing yet."""
    found = zip(QUANTILES, durations.quantiles(list(QUANTILES.values())), strict=True)
    quantiles = {f"{name}_ms": known(value * 1_000) for name, value in found}
    return {"typical_ms": known(durations.typical_s * 1_000), **quantiles}


def known(value: float) -> float | None:
    """A number, or None in place of what is none."""
    return value if math.isfinite(value) else None
