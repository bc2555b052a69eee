"""What is counted of answers and of agreements, and in how little memory."""

from __future__ import annotations

import asyncio
import math

import pytest

from naiad.core.errors import (
    CallerFaultError,
    CancelledError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from naiad.lifecycle.experiments.evidence import ArmEvidence, Outcome, ShadowEvidence, outcome_of
from naiad.lifecycle.experiments.sequences import Rate
from naiad.vision.agreement import AnswerSigns, DetectionAgreement, EmbeddingAgreement, TensorAgreement


def detect(
    detections: int, rows: int = 1, score: float | None = 0.8, *, is_finite: bool = True
) -> AnswerSigns:
    return AnswerSigns("detect", rows, detections, score if detections else None, None, is_finite)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, Outcome.OK),
        (InternalError("broken"), Outcome.ERROR),
        (DeadlineExceededError("late"), Outcome.ERROR),
        (ResourceExhaustedError("full"), Outcome.ERROR),
        (ValueError("a defect"), Outcome.ERROR),
        (InvalidArgumentError("bad shape"), Outcome.CALLERS_FAULT),
        (CallerFaultError("bad shape"), Outcome.CALLERS_FAULT),
        (CancelledError("gone"), Outcome.CANCELLED),
        (asyncio.CancelledError(), Outcome.CANCELLED),
    ],
)
def test_a_version_is_blamed_for_its_own_faults_only(error: BaseException | None, outcome: Outcome) -> None:
    assert outcome_of(error) is outcome


def test_callers_faults_and_cancelled_requests_are_counted_apart() -> None:
    arm = ArmEvidence()
    for outcome in (Outcome.OK, Outcome.OK, Outcome.ERROR, Outcome.CALLERS_FAULT, Outcome.CANCELLED):
        arm.record(outcome, 0.01)
    assert arm.outcomes == [2, 1, 1, 1]
    assert arm.errors == Rate(1, 3)
    assert arm.answered == 3


def test_latency_is_of_answers_alone() -> None:
    """Errors come quickly, or late: neither says how fast a version answers."""
    arm = ArmEvidence()
    arm.record(Outcome.OK, 0.010)
    arm.record(Outcome.OK, 0.040)
    arm.record(Outcome.ERROR, 9.0)
    assert arm.latency.typical_s == pytest.approx(0.020)
    assert arm.to_dict()["typical_ms"] == pytest.approx(20)


def test_signs_count_a_request_once() -> None:
    """A batch of eight pictures is one observation, of its faces a picture."""
    arm = ArmEvidence()
    arm.record_signs(detect(12, rows=8))
    arm.record_signs(detect(0))
    arm.record_signs(detect(1, score=math.nan, is_finite=False))
    assert (arm.looked_into, arm.rows) == (3, 10)
    assert arm.empties == Rate(1, 3)
    assert arm.broken == Rate(1, 3)
    assert arm.faces.mean == pytest.approx((1.5 + 0 + 1) / 3)
    assert (arm.top_score.count, arm.top_score.mean) == (1, 0.8)


def test_lengths_of_vectors_are_kept_as_logarithms_and_zero_has_one() -> None:
    arm = ArmEvidence()
    for norm in (10.0, 1_000.0, None, math.nan):
        arm.record_signs(AnswerSigns("embed", 1, None, None, norm, is_finite=True))
    assert arm.log_norm.count == 2
    assert arm.to_dict()["norm"] == pytest.approx(100)
    assert arm.empties.trials == 0
    arm.record_signs(AnswerSigns("embed", 1, None, None, 0.0, is_finite=True))
    assert math.isfinite(arm.log_norm.mean)


def test_faces_are_judged_by_picture() -> None:
    """The mean of the pictures' shares, not the share of all faces: faces of one picture are missed together."""
    shadow = ShadowEvidence()
    shadow.record(DetectionAgreement(10, 0, 0, 0.0, None, 0.0, 1.0))
    shadow.record(DetectionAgreement(1, 2, 1, 0.9, 0.1, -0.05, 0.5), 12.0)
    shadow.record(DetectionAgreement(0, 0, 0, 0.0, None, 0.0, 0.0))
    assert shadow.compared == 3
    assert (shadow.baseline_faces, shadow.candidate_faces, shadow.matched_faces) == (11, 2, 1)
    assert (shadow.missed.count, shadow.missed.mean) == (2, 0.5)
    assert (shadow.extra.count, shadow.extra.mean) == (1, 0.5)
    assert (shadow.iou.count, shadow.iou.mean) == (1, 0.9)
    assert shadow.score_shift.mean == -0.05
    assert shadow.to_dict()["candidate_p50_ms"] == pytest.approx(12, rel=0.01)


def test_vectors_and_tensors_are_counted_a_request_each() -> None:
    shadow = ShadowEvidence()
    shadow.record(EmbeddingAgreement(2, 0.9, 0.8, 2.0, 0.7, 0.05))
    shadow.record(EmbeddingAgreement(1, 0.7, 0.7, 0.5, None, 0.15))
    shadow.record(EmbeddingAgreement(0, 1.0, 1.0, 1.0, None, 0.0))
    shadow.record(TensorAgreement(200, 1, 0.25, 0.1))
    shadow.record(TensorAgreement(2, 2, 0.125, 0.1))
    told = shadow.to_dict()
    assert (told["cosine"], told["least_cosine"], told["rank_agreement"]) == pytest.approx((0.8, 0.7, 0.7))
    assert told["norm_ratio"] == pytest.approx(1)
    assert (told["mismatched"], told["max_difference"]) == pytest.approx((0.5025, 0.25))


def test_what_the_candidate_could_not_answer_is_a_failure_and_what_was_not_sent_is_not() -> None:
    shadow = ShadowEvidence()
    shadow.record(TensorAgreement(4, 0, 0.0, 0.0))
    shadow.record(TensorAgreement(4, 4, 0.0, 1.0), is_finite=False)
    shadow.record_failure()
    shadow.record_skipped(5)
    assert shadow.failed == Rate(2, 3)
    assert shadow.skipped == 5


def test_nothing_seen_is_none_not_nan() -> None:
    """Reports travel as JSON, which has no NaN."""
    for told in (ArmEvidence().to_dict(), ShadowEvidence().to_dict()):
        assert all(value is None or math.isfinite(value) for value in told.values())
        assert None in told.values()
