"""What `/metrics` shows of experiments is what their report says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pytest
from support.aside import written
from support.onnx_models import add_sub

from naiad.config.experiment_config import ExperimentConfig
from naiad.lifecycle.experiments.director import Experiments
from naiad.lifecycle.experiments.evidence import ArmEvidence, Outcome
from naiad.lifecycle.experiments.guard import Kind, Verdict
from naiad.lifecycle.experiments.reporting import report_of
from naiad.services.metrics_view import ManagerView
from naiad.telemetry.metrics import AsideView
from naiad.telemetry.metrics.view import VERDICTS
from naiad.vision.agreement import AnswerSigns, DetectionAgreement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from naiad.lifecycle.experiments.experiment import Experiment
    from naiad.telemetry.metrics import ExperimentView

FACES = AnswerSigns("detect", rows=2, detections=3, top_score=0.75, norm=None, is_finite=True)
NO_FACES = AnswerSigns("detect", rows=2, detections=0, top_score=None, norm=None, is_finite=True)
VECTOR = AnswerSigns("embed", rows=1, detections=None, top_score=None, norm=12.5, is_finite=True)


@pytest.fixture
async def experiments() -> AsyncIterator[Experiments]:
    made = Experiments()
    yield made
    await made.close()


def adopt(experiments: Experiments, folder: Path, **said: Any) -> Experiment:
    """An experiment on `m`, none of whose versions serves."""
    config = ExperimentConfig.model_validate({"weights": {"1": 90, "2": 10}, **said})
    found = experiments.adopt("m", config, *written(folder, "m", {1: add_sub()}, "max_batch_size: 8"))
    assert found is not None
    return found


def seen(experiments: Experiments) -> ExperimentView:
    manager: Any = None  # not asked for what experiments know
    (view,) = ManagerView(manager, experiments=experiments).experiments()
    return view


def known(**changes: Any) -> dict[str, Any]:
    return dict.fromkeys(("empty_ratio", "faces", "score", "norm")) | changes


async def test_a_versions_figures_are_those_of_its_report(experiments: Experiments, tmp_path: Path) -> None:
    experiment = adopt(experiments, tmp_path)
    evidence = experiment.evidence[2] = ArmEvidence()
    for outcome, count in ((Outcome.OK, 4), (Outcome.ERROR, 3), (Outcome.CALLERS_FAULT, 2)):
        for _ in range(count):
            evidence.record(outcome, 0.02)
    evidence.record(Outcome.CANCELLED, 0.02)
    for signs in (FACES, FACES, FACES, NO_FACES, VECTOR):
        evidence.record_signs(signs)
    _, arm = seen(experiments).arms
    assert arm.outcomes == {"success": 4, "failed": 3, "callers_fault": 2, "cancelled": 1}
    assert arm.answered == 4
    report = report_of(experiment, now_s=0.0).arms[1]
    assert list(arm.latencies_s) == ["0.5", "0.9", "0.99"]
    assert [value * 1_000 for value in arm.latencies_s.values()] == pytest.approx(
        [report.p50_ms, report.p90_ms, report.p99_ms]
    )
    assert arm.empty_ratio == 0.25
    assert arm.faces == pytest.approx(1.125)
    assert arm.score == 0.75
    assert arm.norm == pytest.approx(12.5)
    for figure, value in (
        (report.empty_rate, arm.empty_ratio),
        (report.faces, arm.faces),
        (report.score, arm.score),
        (report.norm, arm.norm),
    ):
        assert figure is not None
        assert figure.value == value


async def test_a_version_that_was_never_ready_is_shown_with_nothing(
    experiments: Experiments, tmp_path: Path
) -> None:
    adopt(experiments, tmp_path)
    baseline, candidate = seen(experiments).arms
    assert [baseline.version, candidate.version] == [1, 2]
    assert not any(baseline.outcomes.values())
    assert not baseline.latencies_s
    assert known() == {name: getattr(baseline, name) for name in known()}


async def test_a_shadow_is_shown_where_there_is_one(experiments: Experiments, tmp_path: Path) -> None:
    experiment = adopt(experiments, tmp_path, shadow={"version": 2})
    assert experiment.shadow is not None
    experiment.shadow.record(DetectionAgreement(4, 2, 2, 0.9, None, 0.0, 0.5))
    experiment.shadow.record_failure()
    experiment.shadow.record_skipped(3)
    shadow = seen(experiments).shadow
    assert shadow is not None
    assert shadow.version == 2
    assert shadow.outcomes == {"compared": 1, "failed": 1, "skipped": 3}
    assert (shadow.missed_ratio, shadow.extra_ratio) == (0.5, 0.0)
    assert (shadow.cosine, shadow.mismatch_ratio) == (None, None)
    experiments.leave("m")
    (tmp_path / "other").mkdir()
    adopt(experiments, tmp_path / "other")
    assert seen(experiments).shadow is None


async def test_verdicts_and_decisions_are_shown(experiments: Experiments, tmp_path: Path) -> None:
    """Every series of decisions is there from the start: a rate needs the 0 before the 1."""
    experiment = adopt(experiments, tmp_path)
    view = seen(experiments)
    assert (view.verdicts, set(view.decisions.values())) == ({}, {0})
    experiment.verdicts[2] = Verdict("better", "", ())
    experiments.decide("m", "roll_back", 2, "it looks odd", "anna")
    experiment.decide(experiment.decision("promote", 2, "", "guard", 0.0), 0.0)
    view = seen(experiments)
    assert view.verdicts == {2: "better"}
    assert view.decisions == {
        ("roll_back", "guard"): 0,
        ("promote", "guard"): 1,
        ("roll_back", "person"): 1,
        ("promote", "person"): 0,
        ("resume", "person"): 0,
    }


async def test_a_version_without_a_float_for_its_norm_does_not_spoil_the_scrape(
    experiments: Experiments, tmp_path: Path
) -> None:
    evidence = adopt(experiments, tmp_path).evidence[1] = ArmEvidence()
    evidence.log_norm.add(709.79)
    baseline, _ = seen(experiments).arms
    assert baseline.norm is not None
    assert baseline.norm > 1e300


async def test_the_process_aside_is_there_with_the_first_experiment(
    experiments: Experiments, tmp_path: Path
) -> None:
    manager: Any = None
    view = ManagerView(manager, experiments=experiments)
    assert view.aside() is None
    adopt(experiments, tmp_path)
    assert view.aside() == AsideView(0.0, 0, 0)
    experiments.leave("m")
    assert view.aside() is not None
    assert not list(view.experiments())


def test_a_server_without_experiments_shows_none() -> None:
    manager: Any = None
    view = ManagerView(manager)
    assert (list(view.experiments()), view.aside()) == ([], None)


def test_the_verdicts_are_those_that_a_guard_has() -> None:
    """The table of metrics lies below the guard and cannot ask it."""
    assert get_args(Kind) == VERDICTS
