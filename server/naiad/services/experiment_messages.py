"""Experiments to the messages that report on them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from naiad.lifecycle.experiments.reporting import report_of
from naiad_protos.naiad.experiments.v1 import experiments_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from naiad.lifecycle.experiments.decisions import Decision, Kind
    from naiad.lifecycle.experiments.experiment import Experiment

KINDS: Mapping[int, Kind] = {
    pb.DECISION_KIND_ROLL_BACK: "roll_back",
    pb.DECISION_KIND_PROMOTE: "promote",
    pb.DECISION_KIND_RESUME: "resume",
}
"""Decisions by the protocol's number."""

_NUMBERS: Mapping[Kind, Any] = {kind: number for number, kind in KINDS.items()}


def report_message(experiment: Experiment, *, problem: str, now_s: float) -> pb.Report:
    """All that is known of an experiment.

    Args:
        experiment: it.
        problem: why its shadow does not run; empty if it does.
        now_s: seconds since 1970.
    """
    # The report's fields are the message's, name by name; a test sees to it.
    report = json_format.ParseDict(asdict(report_of(experiment, now_s=now_s, problem=problem)), pb.Report())
    change = experiment.config.next_change(now_s)
    if change is not None:
        report.next_change_at = change
    report.decisions.extend(_decision(each) for each in experiment.history)
    return report


def _decision(decision: Decision) -> pb.Decision:
    return pb.Decision(
        kind=_NUMBERS[decision.kind],
        experiment=decision.experiment,
        digest=decision.digest,
        candidate=decision.candidate or 0,
        reason=decision.reason,
        by=decision.by,
        at=decision.at,
        dry_run=decision.dry_run,
    )
