"""Whether a candidate goes on, is withdrawn or takes over: a function of limits and evidence. Pure.

Each limit is held against a confidence sequence of its figure (`sequences`), never against the figure alone:

    beyond      the whole interval lies beyond the limit: surely exceeded
    inside      the whole interval lies within: surely kept
    undecided   the limit lies inside the interval, or too little was seen

One check that is beyond rolls back. A promotion needs every check inside. As the intervals hold at all times
at once, it does not matter how often this is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from naiad.lifecycle.experiments.checks import Check, Compared, Measure
from naiad.lifecycle.experiments.measures import MEASURES
from naiad.lifecycle.experiments.phrases import Names, count_text

if TYPE_CHECKING:
    from naiad.config.experiment_config import GuardConfig
    from naiad.lifecycle.experiments.evidence import ArmEvidence, ShadowEvidence
    from naiad.vision.agreement.figures import AnswerTask

__all__ = ["Check", "Kind", "Names", "Verdict", "judge"]

Kind: TypeAlias = Literal["collecting", "holding", "better", "roll_back", "promote"]

_MOST_SENTENCES = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from the evidence, why, and every check that was made.

    collecting   fewer than `min_requests` were seen
    holding      no limit is surely exceeded
    better       every limit is surely kept, and the candidate surely fails less or is faster
    roll_back    a limit is surely exceeded
    promote      `promote_after` was reached and every limit is surely kept
    """

    kind: Kind
    reason: str
    checks: tuple[Check, ...]


def judge(
    config: GuardConfig,
    baseline: ArmEvidence,
    candidate: ArmEvidence | None,
    shadow: ShadowEvidence | None,
    *,
    names: Names,
    task: AnswerTask = "tensors",
    candidates: int = 1,
) -> Verdict:
    """Judge one candidate.

    What is checked depends on the arguments' presence alone, and `alpha` is split evenly over it, so that
    evidence that comes in changes no other check.

    Args:
        config: the limits.
        baseline: what the version that serves did.
        candidate: what the candidate answered; None if it answers nobody (a shadow alone).
        shadow: how far it agrees with the baseline; None if it is not shadowed.
        names: of the two, for sentences.
        task: of the model.
        candidates: of the experiment; `alpha` is split over them, too.
    """
    compared = Compared(baseline, candidate, shadow)
    measures = [measure for measure in MEASURES if measure.applies(config, task, compared)]
    share = config.alpha / max(1, len(measures) * candidates)
    checks = tuple(_check(measure, config, compared, share, names) for measure in measures)
    return _verdict(config, compared, checks)


def _check(measure: Measure, config: GuardConfig, compared: Compared, alpha: float, names: Names) -> Check:
    """Hold one limit; a candidate that fails most of its requests need not fail `min_requests` of them."""
    limit = measure.limit_in(config)
    assert limit is not None
    check = measure.check(limit, compared, alpha, config.min_requests, names)
    if check.state == "undecided" and measure.fails_mostly(compared, alpha):
        # Rates have exact intervals at every count, so that looking before `min_requests` is no less right.
        early = measure.check(limit, compared, alpha, 1, names)
        return early if early.state == "beyond" else check
    return check


def _verdict(config: GuardConfig, compared: Compared, checks: tuple[Check, ...]) -> Verdict:
    beyond = [check.sentence for check in checks if check.state == "beyond"]
    if beyond:
        return Verdict("roll_back", _joined(beyond), checks)
    seen, what = _seen(compared)
    if seen < config.min_requests:
        return Verdict(
            "collecting", f"{count_text(seen)} of {count_text(config.min_requests)} {what}", checks
        )
    if not checks:
        return Verdict("holding", "the guard has no limit that applies", checks)
    undecided = [check.label for check in checks if check.state == "undecided"]
    if undecided:
        reason = (
            f"no limit is surely exceeded after {count_text(seen)} {what}; undecided: {', '.join(undecided)}"
        )
        return Verdict("holding", reason, checks)
    return _settled(config, compared, checks)


def _settled(config: GuardConfig, compared: Compared, checks: tuple[Check, ...]) -> Verdict:
    """Every check is inside its limit."""
    seen, what = _seen(compared)
    reason = f"{_all(checks)} after {count_text(seen)} {what}"
    # A shadow shows what a candidate answers, not how fast nor under what load: nothing is promoted by it
    # alone.
    if compared.candidate is not None and config.promote_after is not None and seen >= config.promote_after:
        return Verdict("promote", reason, checks)
    better = [check.sentence for check in checks if check.is_better]
    if better:
        return Verdict("better", f"{reason}; {_joined(better)}", checks)
    return Verdict("holding", reason, checks)


def _seen(compared: Compared) -> tuple[int, str]:
    """The candidate's requests, and what they are."""
    if compared.candidate is not None:
        return compared.candidate.answered, "requests"
    return 0 if compared.shadow is None else compared.shadow.failed.trials, "requests in the shadow"


def _all(checks: tuple[Check, ...]) -> str:
    return (
        "the one check is inside its limit"
        if len(checks) == 1
        else f"all {len(checks)} checks are inside their limits"
    )


def _joined(sentences: list[str]) -> str:
    more = len(sentences) - _MOST_SENTENCES
    return "; ".join(sentences[:_MOST_SENTENCES]) + (f"; and {more} more" if more > 0 else "")
