"""What a report tells of an experiment in force: states, roles, shares, and in notes what else there is to know."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest_asyncio
from support.versions import NotedAside, serving_versions, tells_its_version

from naiad.config.experiment_config import ExperimentConfig
from naiad.lifecycle.experiments.decisions import Decisions
from naiad.lifecycle.experiments.evidence import Outcome
from naiad.lifecycle.experiments.experiment import Experiment
from naiad.lifecycle.experiments.reporting import report_of
from naiad.vision.agreement import TensorAgreement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from naiad.lifecycle.experiments.decisions import Kind
    from naiad.lifecycle.version import ServingVersion

    Versions = dict[int, ServingVersion]


@pytest_asyncio.fixture
async def versions(tmp_path: Path) -> AsyncIterator[Versions]:
    async with serving_versions(tmp_path, "m", {1: tells_its_version(1), 2: tells_its_version(2)}) as serving:
        yield serving


def begin(versions: Versions, **fields: Any) -> Experiment:
    config = ExperimentConfig.model_validate({"weights": {"1": 3, "2": 1}} | fields)
    made = Experiment("m", config, aside=NotedAside(), decisions=Decisions(), now_s=100.0)
    made.bind(versions, 100.0)
    return made


def decide(experiment: Experiment, kind: Kind, candidate: int | None, *, dry_run: bool = False) -> None:
    made = experiment.decision(kind, candidate, "because", "tester", 60.0, dry_run=dry_run)
    experiment.decide(made, 60.0)


async def test_each_version_has_its_role_its_share_and_what_it_did(versions: Versions) -> None:
    experiment = begin(versions, shadow={"version": 3}, name="try")
    for outcome, count in (
        (Outcome.OK, 4),
        (Outcome.ERROR, 3),
        (Outcome.CALLERS_FAULT, 2),
        (Outcome.CANCELLED, 1),
    ):
        for _ in range(count):
            experiment.evidence[2].record(outcome, 0.002)
    report = report_of(experiment, now_s=101.0)
    assert (report.model, report.experiment, report.baseline, report.began_at) == ("m", "try", 1, 100.0)
    assert report.digest == experiment.config.digest
    told = [(arm.version, arm.role, arm.share, arm.state) for arm in report.arms]
    assert told == [
        (1, "baseline", 0.75, "ready"),
        (2, "candidate", 0.25, "ready"),
        (3, "shadow", 0.0, "not ready"),
    ]
    arm = report.arms[1]
    assert (arm.ok, arm.errors, arm.callers_faults, arm.cancelled) == (4, 3, 2, 1)
    assert (arm.error_rate.value, arm.error_rate.count) == (3 / 7, 7)


async def test_the_state_tells_what_is_in_force(versions: Versions) -> None:
    states = []
    experiment = begin(versions, guard={})

    def note() -> None:
        report = report_of(experiment, now_s=101.0)
        states.append((report.state, report.arms[1].state))

    note()
    for kind in ("roll_back", "resume", "promote"):
        decide(experiment, kind, 2)
        note()
    assert states == [
        ("running", "ready"),
        ("rolled back", "rolled back"),
        ("running", "ready"),
        ("version 2 was promoted and answers all", "promoted"),
    ]
    assert report_of(begin(versions), now_s=101.0).state == "running, without a guard"


async def test_what_a_guard_says_is_told_once_it_has_looked(versions: Versions) -> None:
    experiment = begin(versions, guard={"min_requests": 5})
    assert report_of(experiment, now_s=101.0).candidates == ()
    experiment.tick(101.0)
    (candidate,) = report_of(experiment, now_s=102.0).candidates
    assert (candidate.version, candidate.verdict.kind, candidate.verdict.reason) == (
        2,
        "collecting",
        "0 of 5 requests",
    )


async def test_a_shadow_is_reported_on_with_what_was_compared(versions: Versions) -> None:
    experiment = begin(versions, weights={"1": 1}, shadow={"version": 2})
    assert experiment.shadow is not None
    experiment.shadow.record(TensorAgreement(10, 5, 0.5, 0.5), 4.0)
    experiment.shadow.record_skipped()
    shadow = report_of(experiment, now_s=101.0).shadow
    assert shadow is not None
    assert (shadow.version, shadow.compared, shadow.skipped) == (2, 1, 1)
    assert shadow.mismatched is not None
    assert (shadow.mismatched.value, shadow.cosine) == (0.5, None)
    assert report_of(begin(versions), now_s=101.0).shadow is None


async def test_notes_tell_what_is_no_figure(versions: Versions) -> None:
    at = datetime(2026, 12, 1, 10, tzinfo=UTC)
    experiment = begin(
        versions,
        keys={"2": ["alice", "bob"], "1": ["carol"]},
        ramp=[{"at": at.isoformat(), "weights": {"1": 1, "2": 1.5}}],
        guard={"dry_run": True},
    )
    decide(experiment, "roll_back", 2, dry_run=True)
    decide(experiment, "resume", None)
    report = report_of(experiment, now_s=101.0, problem="the process aside has no memory")
    assert list(report.notes) == [
        "the shadow does not run: the process aside has no memory",
        "dry run: decisions are recorded and not carried out",
        "the weights become 1: 1, 2: 1.5 at 2026-12-01 10:00:00 UTC",
        "1 listed key always gets version 1",
        "2 listed keys always get version 2",
        "1970-01-01 00:01:00 UTC version 2 would have been rolled back by tester: because",
        "1970-01-01 00:01:00 UTC all candidates were resumed by tester: because",
    ]
    assert not any("become" in note for note in report_of(experiment, now_s=at.timestamp()).notes)
