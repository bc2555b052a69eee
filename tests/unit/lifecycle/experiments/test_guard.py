"""What follows from evidence: who is withdrawn, who takes over, and in what words."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from naiad.config.experiment_config import GuardConfig
from naiad.lifecycle.experiments.evidence import ArmEvidence, Outcome, ShadowEvidence
from naiad.lifecycle.experiments.guard import Names, Verdict, judge
from naiad.lifecycle.experiments.measures import MEASURES
from naiad.vision.agreement import AnswerSigns, DetectionAgreement, EmbeddingAgreement, TensorAgreement

if TYPE_CHECKING:
    from naiad.lifecycle.experiments.guard import Check
    from naiad.vision.agreement.figures import AnswerTask

NAMES = Names("version 1", "version 2")
LATENCIES = (0.009, 0.010, 0.011)
NOT_CHECKED: dict[str, Any] = {
    "max_error_rate_increase": None,
    "max_latency_ratio": None,
    "max_empty_rate_increase": None,
    "max_detections_drop": None,
    "max_score_shift": None,
    "max_norm_ratio": None,
    "max_missed_rate": None,
    "max_extra_rate": None,
    "max_mismatch_rate": None,
}


def guard(**limits: Any) -> GuardConfig:
    """The default limits, and those given."""
    return GuardConfig.model_validate(limits)


def only(**limits: Any) -> GuardConfig:
    """These limits and no other."""
    return guard(**{**NOT_CHECKED, **limits})


def arm(
    answered: int, errors: int = 0, *, slower: float = 1.0, faces: float | None = None, broken: int = 0
) -> ArmEvidence:
    """A version that answered and failed so often; with `faces`, one that found so many in the half of its pictures."""
    evidence = ArmEvidence()
    for latency, _ in zip(itertools.cycle(LATENCIES), range(answered), strict=False):
        evidence.record(Outcome.OK, latency * slower)
    for _ in range(errors):
        evidence.record(Outcome.ERROR, 0.0)
    for index in range(answered):
        is_finite = index >= broken
        if faces is None:
            evidence.record_signs(AnswerSigns("tensors", 1, None, None, None, is_finite))
        else:
            found = round(faces) if index % 2 else 0
            evidence.record_signs(AnswerSigns("detect", 1, found, 0.8 if found else None, None, is_finite))
    return evidence


def ask(
    config: GuardConfig,
    baseline: ArmEvidence,
    candidate: ArmEvidence | None,
    shadow: ShadowEvidence | None = None,
    task: AnswerTask = "tensors",
) -> Verdict:
    return judge(config, baseline, candidate, shadow, names=NAMES, task=task)


def of(verdict: Verdict, metric: str) -> Check:
    return next(check for check in verdict.checks if check.metric == metric)


def test_errors_beyond_the_limit_roll_back_in_plain_words() -> None:
    verdict = ask(only(max_error_rate_increase=0.01), arm(8_991, 9), arm(948, 52))
    assert verdict.kind == "roll_back"
    check = of(verdict, "error_rate")
    assert check.low is not None
    assert check.low > 0.01
    assert verdict.reason == check.sentence
    assert verdict.reason == (
        "error rate 5.2 % is 2.4 to 8.7 points above version 1's 0.1 %, beyond the limit of 1 point"
    )


def test_as_many_errors_as_the_baseline_has_are_no_fault() -> None:
    """Both versions fail when what they stand on does."""
    verdict = ask(only(max_error_rate_increase=0.1), arm(4_500, 4_500), arm(1_000, 1_000))
    assert verdict.kind == "holding"
    assert of(verdict, "error_rate").state == "inside"


def test_a_slower_candidate_is_withdrawn_and_a_faster_one_better() -> None:
    limit = only(max_latency_ratio=1.2)
    slow = ask(limit, arm(2_000), arm(500, slower=1.3))
    assert slow.kind == "roll_back"
    assert slow.reason.startswith("typical latency 13 ms is 1.28 to 1.32 times")
    assert slow.reason.endswith(" times version 1's 10 ms, beyond the limit of 1.2 times")
    fast = ask(limit, arm(2_000), arm(500, slower=0.8))
    assert fast.kind == "better"
    assert "typical latency 8 ms is 0.7" in fast.reason
    assert ask(limit, arm(2_000), arm(500, slower=1.05)).kind == "holding"


def test_one_check_that_is_beyond_is_enough() -> None:
    verdict = ask(guard(), arm(9_000, faces=2), arm(1_000, slower=1.5, faces=2), task="detect")
    assert verdict.kind == "roll_back"
    assert [check.metric for check in verdict.checks if check.state == "beyond"] == ["latency"]


@pytest.mark.parametrize("share", [0, 1])
def test_before_min_requests_nothing_but_ruin_is_decided(share: int) -> None:
    """Forty slow answers wait for more; forty errors do not."""
    config = guard(min_requests=200)
    if share:
        verdict = ask(config, arm(360), arm(0, 40))
        assert verdict.kind == "roll_back"
        assert verdict.reason.startswith("error rate 100 % is ")
    else:
        verdict = ask(config, arm(360), arm(160, slower=5))
        assert (verdict.kind, verdict.reason) == ("collecting", "160 of 200 requests")
        assert of(verdict, "latency").sentence == (
            "typical latency 49.8 ms against version 1's 10 ms, too early to say after 160 of 200 observations"
        )


def test_answers_that_are_not_finite_are_withdrawn_early() -> None:
    verdict = ask(guard(min_requests=1_000), arm(900), arm(40, broken=40))
    assert verdict.kind == "roll_back"
    assert "100 % of answers hold NaN or infinity" in verdict.reason


def test_a_few_early_errors_decide_nothing() -> None:
    assert ask(guard(), arm(180), arm(14, 6)).kind == "collecting"
    assert ask(guard(), arm(0), arm(2, 2)).kind == "collecting"


def test_ruin_of_both_versions_decides_nothing() -> None:
    assert ask(guard(), arm(0, 360), arm(0, 40)).kind == "collecting"


def test_promotion_needs_the_requests_and_every_check_inside() -> None:
    config = only(max_error_rate_increase=0.01, max_latency_ratio=1.2, promote_after=3_000)
    assert ask(config, arm(9_000), arm(2_990)).kind == "holding"
    promoted = ask(config, arm(9_000), arm(3_000))
    assert promoted.kind == "promote"
    assert promoted.reason == "all 3 checks are inside their limits after 3,000 requests"
    undecided = ask(config, arm(9_000), arm(2_985, 15))
    assert undecided.kind == "holding"
    assert undecided.reason == "no limit is surely exceeded after 3,000 requests; undecided: error rate"


def test_a_check_without_evidence_holds_a_promotion_back() -> None:
    """Nobody looked into answers: that no NaN was seen says nothing."""
    config = only(max_error_rate_increase=0.05, promote_after=1_000)
    blind = arm(0)
    for _ in range(5_000):
        blind.record(Outcome.OK, 0.01)
    verdict = ask(config, arm(9_000), blind)
    assert verdict.kind == "holding"
    assert of(verdict, "not_finite").sentence == "answers with NaN or infinity: nothing seen of version 2 yet"


def test_a_shadow_alone_is_judged_and_never_promotes() -> None:
    shadow = ShadowEvidence()
    for _ in range(5_000):
        shadow.record(TensorAgreement(100, 0, 0.0, 0.0))
    verdict = ask(guard(promote_after=1_000), arm(9_000), None, shadow)
    assert [check.metric for check in verdict.checks] == ["shadow_failures", "shadow_mismatch"]
    assert verdict.kind == "holding"
    assert verdict.reason == "all 2 checks are inside their limits after 5,000 requests in the shadow"


def test_missed_faces_in_the_shadow_roll_back() -> None:
    shadow = ShadowEvidence()
    for index in range(600):
        missed = int(index % 5 == 0)
        shadow.record(DetectionAgreement(1, 1 - missed, 1 - missed, 0.9, None, 0.0, 0.1))
    verdict = ask(guard(), arm(9_000, faces=1), None, shadow, task="detect")
    assert verdict.kind == "roll_back"
    assert verdict.reason.startswith("version 2 misses 20 % (")
    assert verdict.reason.endswith(" of version 1's faces in a picture, beyond the limit of 5 %")


def test_a_candidate_that_fails_all_it_is_shadowed_with_is_withdrawn_early() -> None:
    shadow = ShadowEvidence()
    for _ in range(30):
        shadow.record_failure()
    verdict = ask(guard(), arm(9_000), None, shadow)
    assert verdict.kind == "roll_back"
    assert verdict.reason.startswith("version 2 fails on 100 % (")


@pytest.mark.parametrize(("cosine", "kind"), [(0.99, "holding"), (0.0, "roll_back")])
def test_a_space_that_was_rotated_is_told_by_the_cosine(cosine: float, kind: str) -> None:
    shadow = ShadowEvidence()
    for _ in range(1_500):
        shadow.record(EmbeddingAgreement(1, cosine, cosine, 1.0, None, 0.0))
    verdict = ask(guard(min_cosine=0.9), arm(9_000), None, shadow, task="embed")
    assert verdict.kind == kind
    assert of(verdict, "shadow_cosine").state == ("inside" if kind == "holding" else "beyond")
    assert "shadow_cosine" not in {
        check.metric for check in ask(guard(), arm(9), None, shadow, "embed").checks
    }


@pytest.mark.parametrize(("shift", "state"), [(-0.2, "beyond"), (0.2, "beyond"), (0.0, "inside")])
def test_scores_may_move_neither_up_nor_down(shift: float, state: str) -> None:
    shadow = ShadowEvidence()
    for index in range(300):
        shadow.record(DetectionAgreement(1, 1, 1, 0.9, None, shift + 0.01 * (index % 2), 0.1))
    check = of(ask(guard(), arm(9), None, shadow, "detect"), "shadow_score")
    assert check.state == state
    assert check.sentence.endswith("limit of 0.1 either way")


def test_lengths_of_vectors_may_neither_grow_nor_shrink() -> None:
    for ratio, state in ((1.5, "beyond"), (0.6, "beyond"), (1.05, "inside")):
        baseline, candidate = arm(0), arm(0)
        for index in range(900):
            norm = 20 + 0.1 * (index % 3)
            baseline.record_signs(AnswerSigns("embed", 1, None, None, norm, is_finite=True))
            candidate.record_signs(AnswerSigns("embed", 1, None, None, norm * ratio, is_finite=True))
        assert of(ask(guard(), baseline, candidate, task="embed"), "norm").state == state


def test_fewer_faces_roll_back_and_more_are_no_gain() -> None:
    """Nobody knows whether more faces are right."""
    config = only(max_detections_drop=0.05)
    fewer = ask(config, arm(20_000, faces=10), arm(3_000, faces=5), task="detect")
    assert fewer.kind == "roll_back"
    assert fewer.reason.startswith("2.5 faces a picture are 4")
    assert fewer.reason.endswith(" % fewer than version 1's 5, beyond the limit of 5 %")
    assert ask(config, arm(20_000, faces=5), arm(3_000, faces=10), task="detect").kind == "holding"


def test_alpha_is_split_over_what_is_checked_whatever_was_seen() -> None:
    """Evidence on one figure leaves another's interval as it is; a limit less, or one candidate, narrows it."""
    seen, blind = arm(1_000, 50, faces=2), arm(0)
    for outcome, times in ((Outcome.OK, 1_000), (Outcome.ERROR, 50)):
        for _ in range(times):
            blind.record(outcome, 0.01)
    baseline = arm(9_000, 9, faces=2)
    errors = [of(ask(guard(), baseline, each, task="detect"), "error_rate") for each in (seen, blind)]
    assert (errors[0].low, errors[0].high) == (errors[1].low, errors[1].high)
    alone = of(ask(only(max_error_rate_increase=0.01), baseline, seen, task="detect"), "error_rate")
    both = judge(guard(), baseline, seen, None, names=NAMES, task="detect", candidates=2)
    two = of(both, "error_rate")
    assert alone.low is not None
    assert errors[0].low is not None
    assert two.low is not None
    assert two.low < errors[0].low < alone.low


def test_a_guard_without_limits_decides_nothing() -> None:
    verdict = ask(only(), arm(9_000), arm(0, 1_000))
    assert (verdict.kind, verdict.checks) == ("holding", ())


def test_a_candidate_that_is_not_there_yet_is_waited_for() -> None:
    assert ask(guard(), arm(9_000), None).kind == "collecting"


def test_every_measure_is_limited_by_a_field_of_the_guard_and_has_a_name_of_its_own() -> None:
    assert {measure.limit for measure in MEASURES} <= set(GuardConfig.model_fields)
    assert len({measure.metric for measure in MEASURES}) == len(MEASURES)


@pytest.mark.parametrize("task", ["detect", "embed", "tensors"])
def test_every_sentence_can_be_said_before_and_after_there_is_evidence(task: AnswerTask) -> None:
    """No place is left unfilled, no NaN is told."""
    full, agreed = arm(300, 3), ShadowEvidence()
    for _ in range(300):
        full.record_signs(AnswerSigns("detect", 1, 1, 0.9, None, is_finite=True))
        full.record_signs(AnswerSigns("embed", 1, None, None, 20.0, is_finite=True))
        agreed.record(DetectionAgreement(1, 1, 1, 0.9, 0.1, 0.0, 0.1))
        agreed.record(EmbeddingAgreement(1, 0.9, 0.9, 1.0, 0.5, 0.1))
        agreed.record(TensorAgreement(3, 0, 0.0, 0.0))
    for candidate, shadow in ((arm(0), ShadowEvidence()), (full, agreed)):
        verdict = ask(guard(min_cosine=0.5), full, candidate, shadow, task)
        assert len(verdict.checks) >= 5
        for check in verdict.checks:
            assert "nan" not in check.sentence
            assert "inf" not in check.sentence.replace("infinity", "")
            assert "{" not in check.sentence
