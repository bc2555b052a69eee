"""A report travels as JSON, and reads well in a pipe and at a terminal."""

from __future__ import annotations

import dataclasses
import json

import pytest

from naiad.config.experiment_config import GuardConfig
from naiad.core.errors import InvalidArgumentError
from naiad.lifecycle.experiments.checks import Check
from naiad.lifecycle.experiments.evidence import ArmEvidence, Outcome, ShadowEvidence
from naiad.lifecycle.experiments.guard import Names, judge
from naiad.lifecycle.experiments.report import (
    CandidateReport,
    ExperimentReport,
    arm_report,
    from_json,
    shadow_report,
    to_json,
)
from naiad.lifecycle.experiments.report_text import interval_plot, plain_text
from naiad.vision.agreement import AnswerSigns, DetectionAgreement


def make_report(requests: int = 1_000) -> ExperimentReport:
    arms = []
    for count, every in ((9 * requests, 1_000), (requests, 20)):
        arm = ArmEvidence()
        for index in range(count):
            arm.record(Outcome.ERROR if index % every == 0 else Outcome.OK, 0.010 + 0.001 * (index % 3))
            arm.record_signs(
                AnswerSigns("detect", 1, index % 3, 0.8 if index % 3 else None, None, is_finite=True)
            )
        arms.append(arm)
    shadow = ShadowEvidence()
    for index in range(requests):
        shadow.record(DetectionAgreement(2, 2, 1 + index % 2, 0.9, 0.05, -0.01, 0.2), 25.0)
    names = Names("version 1", "version 2")
    verdict = judge(GuardConfig.model_validate({}), arms[0], arms[1], shadow, names=names, task="detect")
    return ExperimentReport(
        model="face_detector",
        experiment="yunet-2",
        digest="0123abcd",
        began_at=1_790_000_000.5,
        state="running",
        baseline=1,
        alpha=0.05,
        arms=(
            arm_report(1, arms[0], role="baseline", share=0.9),
            arm_report(2, arms[1], role="candidate", share=0.1),
        ),
        shadow=shadow_report(2, shadow),
        candidates=(CandidateReport(2, verdict),),
        notes=("resumed by hand",),
    )


@pytest.mark.parametrize("requests", [0, 1, 1_000])
def test_a_report_is_the_same_after_json(requests: int) -> None:
    """At every stage, and as JSON that strict readers take: without NaN and infinity."""
    report = make_report(requests)
    text = to_json(report)
    assert from_json(text) == report
    json.loads(text, parse_constant=pytest.fail)


def test_json_that_is_no_report_is_refused_by_its_field() -> None:
    told = json.loads(to_json(make_report(10)))
    told["arms"][0]["share"] = "much"
    with pytest.raises(InvalidArgumentError, match=r"no report of an experiment: arms\.0\.share: "):
        from_json(json.dumps(told))
    with pytest.raises(InvalidArgumentError, match="no report"):
        from_json("{")


def test_the_text_says_what_each_version_did_and_what_follows() -> None:
    lines = plain_text(make_report()).splitlines()
    rows = {line[:20].strip(): line.split()[-1] for line in lines if line}
    assert lines[0] == "face_detector  yunet-2 (0123abcd), since 2026-09-21 14:13:20 UTC: running"
    assert next(line for line in lines if "answered  " in line).split() == ["answered", "8,991", "950"]
    assert any(line.split()[:4] == ["error", "rate", "0.1", "%"] for line in lines)
    assert rows["typical latency"] == "inside"  # the check's row comes last
    assert any("version 2 in the shadow, on requests that version 1 answered" in line for line in lines)
    assert any("missed faces" in line and "25 %" in line for line in lines)
    assert any(line.startswith("version 2: roll back, error rate 5 % is ") for line in lines)
    assert lines[-1] == "resumed by hand"


def test_rows_that_no_version_has_are_left_out() -> None:
    arm = ArmEvidence()
    arm.record(Outcome.OK, 0.01)
    report = dataclasses.replace(
        make_report(0), arms=(arm_report(1, arm, role="baseline", share=1.0),), shadow=None, candidates=()
    )
    text = plain_text(report)
    assert "answered" in text
    assert "faces" not in text
    assert "vectors" not in text


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_asked_and_none_is_coloured(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = plain_text(make_report(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text


def check(metric: str, interval: tuple[float, float, float] | None, limit: float, unit: str) -> Check:
    """A check whose interval is (low, estimate, high)."""
    low, estimate, high = interval or (None, None, None)
    return Check(
        metric=metric,
        label=metric,
        baseline=None,
        candidate=None,
        estimate=estimate,
        low=low,
        high=high,
        limit=limit,
        state="undecided",
        unit=unit,  # type: ignore[arg-type]  # a plain text here
        value_unit="number",
        count=1,
        is_better=False,
        sentence="",
    )


@pytest.mark.parametrize(
    ("of", "plot"),
    [
        # Within: no change, the interval, then the limit.
        (check("error_rate", (0.002, 0.004, 0.006), 0.01, "points"), "  :  (--o--)     |  "),
        # Beyond: the limit, then the interval.
        (check("error_rate", (0.015, 0.02, 0.025), 0.01, "points"), "  :    |  (---o---)  "),
        # A limit both ways has two marks.
        (check("score", (-0.05, 0.0, 0.05), 0.1, "number"), "  |   (--o--)    |  "),
        # Nothing known yet: the limit alone.
        (check("latency", None, 1.2, "ratio"), "  :              |  "),
    ],
)
def test_a_plot_shows_where_the_interval_lies(of: Check, plot: str) -> None:
    """The order of the marks is what is read; places may differ by a character."""
    drawn = interval_plot(of, 20)
    assert len(drawn) == 20
    marks = [mark for mark in drawn if mark not in " -"]
    assert marks == [mark for mark in plot if mark not in " -"]


def test_an_interval_far_beyond_ends_in_an_arrow() -> None:
    drawn = interval_plot(check("error_rate", (0.009, 0.02, 0.9), 0.01, "points"))
    assert drawn.rstrip().endswith(">")
    assert "|" in drawn
