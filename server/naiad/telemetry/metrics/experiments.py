"""Our families on experiments, filled from what was learnt about each version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.telemetry.metrics.view import VERDICTS

if TYPE_CHECKING:
    from naiad.telemetry.metrics.families import Families
    from naiad.telemetry.metrics.view import ArmView, AsideView, ExperimentView, ShadowView


def add_experiment(families: Families, view: ExperimentView) -> None:
    """What is known of one experiment."""
    for arm in view.arms:
        _add_arm(families, view.model, arm)
    if view.shadow is not None:
        _add_shadow(families, view.model, view.shadow)
    for version, said in view.verdicts.items():
        labels = _labels(view.model, version)
        for verdict in VERDICTS:
            families.add("naiad_experiment_verdict", {**labels, "verdict": verdict}, int(verdict == said))
    for (decision, by), count in view.decisions.items():
        labels = {"model": view.model, "decision": decision, "by": by}
        families.add("naiad_experiment_decisions_total", labels, count)


def add_aside(families: Families, view: AsideView) -> None:
    """What the process aside takes."""
    families.add("naiad_aside_cpu_seconds_total", {}, view.cpu_s)
    families.add("naiad_aside_starts_total", {}, view.starts)
    families.add("naiad_aside_pending", {}, view.pending)


def _add_arm(families: Families, model: str, arm: ArmView) -> None:
    labels = _labels(model, arm.version)
    for outcome, count in arm.outcomes.items():
        families.add("naiad_experiment_requests_total", {**labels, "outcome": outcome}, count)
    families.summary("naiad_experiment_latency_seconds", labels, arm.latencies_s, arm.answered, None)
    families.add("naiad_experiment_share", labels, arm.share)
    families.add_known("naiad_experiment_empty_ratio", labels, arm.empty_ratio)
    families.add_known("naiad_experiment_faces", labels, arm.faces)
    families.add_known("naiad_experiment_score", labels, arm.score)
    families.add_known("naiad_experiment_norm", labels, arm.norm)


def _add_shadow(families: Families, model: str, shadow: ShadowView) -> None:
    labels = _labels(model, shadow.version)
    for outcome, count in shadow.outcomes.items():
        families.add("naiad_shadow_requests_total", {**labels, "outcome": outcome}, count)
    families.add_known("naiad_shadow_missed_ratio", labels, shadow.missed_ratio)
    families.add_known("naiad_shadow_extra_ratio", labels, shadow.extra_ratio)
    families.add_known("naiad_shadow_cosine", labels, shadow.cosine)
    families.add_known("naiad_shadow_mismatch_ratio", labels, shadow.mismatch_ratio)


def _labels(model: str, version: int) -> dict[str, str]:
    return {"model": model, "version": str(version)}
