"""An experiment in force as its report."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from naiad.lifecycle.experiments.evidence import ArmEvidence
from naiad.lifecycle.experiments.report import (
    DEFAULT_ALPHA,
    ArmReport,
    CandidateReport,
    ExperimentReport,
    arm_report,
    shadow_report,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from naiad.lifecycle.experiments.decisions import Decision
    from naiad.lifecycle.experiments.experiment import Experiment

_DONE = {"roll_back": "rolled back", "promote": "promoted", "resume": "resumed"}


def report_of(experiment: Experiment, *, now_s: float, problem: str = "") -> ExperimentReport:
    """All that is known of an experiment.

    Args:
        experiment: it.
        now_s: seconds since 1970.
        problem: why its shadow does not run; empty if it does.
    """
    config = experiment.config
    shadow = None
    if config.shadow is not None and experiment.shadow is not None:
        shadow = shadow_report(config.shadow.version, experiment.shadow)
    return ExperimentReport(
        model=experiment.model,
        experiment=config.name,
        digest=config.digest,
        began_at=experiment.began_s,
        state=_state(experiment),
        baseline=config.baseline,
        alpha=DEFAULT_ALPHA,
        arms=tuple(_arm(experiment, version) for version in config.versions),
        shadow=shadow,
        candidates=tuple(
            CandidateReport(version, verdict) for version, verdict in sorted(experiment.verdicts.items())
        ),
        notes=tuple(_notes(experiment, now_s, problem)),
    )


def _arm(experiment: Experiment, version: int) -> ArmReport:
    config = experiment.config
    role = "candidate" if version in config.answering else "shadow"
    return arm_report(
        version,
        experiment.evidence.get(version) or ArmEvidence(),
        role="baseline" if version == config.baseline else role,
        share=experiment.share_of(version),
        state=_state_of(experiment, version),
    )


def _state(experiment: Experiment) -> str:
    promoted = experiment.promoted
    if promoted is not None:
        return f"version {promoted.candidate} was promoted and answers all"
    if set(experiment.config.candidates) <= set(experiment.rolled_back):
        return "rolled back"
    return "running" if experiment.config.guard is not None else "running, without a guard"


def _state_of(experiment: Experiment, version: int) -> str:
    promoted = experiment.promoted
    if version not in experiment.ready:
        return "not ready"
    if version in experiment.rolled_back:
        return "rolled back"
    return "promoted" if promoted is not None and promoted.candidate == version else "ready"


def _notes(experiment: Experiment, now_s: float, problem: str) -> Iterator[str]:
    config = experiment.config
    if problem:
        yield f"the shadow does not run: {problem}"
    if config.guard is not None and config.guard.dry_run:
        yield "dry run: decisions are recorded and not carried out"
    change = config.next_change(now_s)
    if change is not None:
        shares = ", ".join(f"{version}: {weight:g}" for version, weight in config.weights_at(change).items())
        yield f"the weights become {shares} at {_time(change)}"
    for version, keys in sorted(config.keys.items()):
        who = "1 listed key always gets" if len(keys) == 1 else f"{len(keys)} listed keys always get"
        yield f"{who} version {version}"
    for decision in experiment.history:
        yield _told(decision)


def _told(decision: Decision) -> str:
    what = "all candidates were" if decision.candidate is None else f"version {decision.candidate} was"
    if decision.dry_run:
        what = f"version {decision.candidate} would have been"
    return f"{_time(decision.at)} {what} {_DONE[decision.kind]} by {decision.by}: {decision.reason}"


def _time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
