"""`naiad check` of a model with an experiment: what it would do, which versions it adds, what is wrong with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.onnx_models import add_sub
from support.repositories import ADD_SUB_CONFIG, add_model

from naiad.cli.check_json import to_json
from naiad.cli.check_text import plain_text
from naiad.lifecycle.inspection import Stage
from naiad.lifecycle.inspector import Inspector
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.threads import CpuBudget

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.lifecycle.inspection import ExperimentReport, Inspection


def inspect(repository: Path, experiment: Any = None, config: str = ADD_SUB_CONFIG) -> Inspection:
    """Look at a model `m` with versions 1, 2 and 3, of which the version policy selects the last."""
    folder = add_model(repository, "m", dict.fromkeys((1, 2, 3), add_sub()), config)
    if experiment is not None:
        text = experiment if isinstance(experiment, str) else json.dumps(experiment)
        (folder / "experiment.json").write_text(text)
    inspector = Inspector(
        OrtEnvironment.detect(), CpuBudget(1, "a test"), auto_complete=True, default_max_batch_size=4
    )
    return inspector.inspect([repository])


def report(inspection: Inspection) -> ExperimentReport:
    found = inspection.models[0].experiment
    assert found is not None
    return found


def test_a_model_without_an_experiment_says_nothing_of_one(tmp_path: Path) -> None:
    found = inspect(tmp_path)
    assert found.models[0].experiment is None
    assert "experiment" not in plain_text(found)
    assert json.loads(to_json(found))["models"][0]["experiment"] is None


def test_versions_of_the_experiment_are_looked_at_beside_those_of_the_policy(tmp_path: Path) -> None:
    found = inspect(tmp_path, {"weights": {"1": 90, "2": 10}, "shadow": {"version": 3}})
    assert found.ok
    assert [version.version for version in found.models[0].versions] == [1, 2, 3]
    assert report(found).versions_added == (1, 2)
    assert "3 selected by the version policy (latest 1); 1, 2 for the experiment" in plain_text(found)


def test_what_it_would_do_is_told_in_sentences_and_in_numbers(tmp_path: Path) -> None:
    found = inspect(
        tmp_path,
        {
            "weights": {"1": 3, "2": 1},
            "keys": {"2": ["alice", "bob"]},
            "ramp": [{"at": "2026-12-01T12:00:00+02:00", "weights": {"2": 1}}],
            "shadow": {"version": 3, "share": 0.25},
            "guard": {"promote_after": 1000, "dry_run": True},
        },
    )
    plan = report(found).plan
    assert plan is not None
    assert plan.explanation == (
        "'m', baseline 1: version 1 answers 75 %, version 2 answers 25 %",
        "from 2026-12-01T10:00:00+00:00: version 1 answers 0 %, version 2 answers 100 %",
        "2 listed keys always get version 2",
        "version 3 is sent copies of 0.25 of the baseline's requests, with 0.5 CPUs",
        "guard: decides from 100 requests of a candidate on, promotes after 1000; dry run: decisions are "
        "recorded, not carried out",
    )
    assert all(line in plain_text(found) for line in plan.explanation)
    told = json.loads(to_json(found))["models"][0]["experiment"]
    assert told.keys() == {"source", "versions_added", "plan", "problem"}
    assert told["plan"] == {
        "name": "m",
        "digest": plan.digest,
        "baseline": 1,
        "candidates": [2, 3],
        "shares": {"1": 0.75, "2": 0.25},
        "ramp_steps": 1,
        "keys": 2,
        "shadow": 3,
        "is_guarded": True,
        "explanation": list(plan.explanation),
    }


def test_a_long_ramp_is_told_in_part(tmp_path: Path) -> None:
    steps = [{"at": f"2026-01-{day:02}T00:00:00Z", "weights": {"2": 1}} for day in range(1, 21)]
    plan = report(inspect(tmp_path, {"weights": {"1": 1}, "ramp": steps})).plan
    assert plan is not None
    assert plan.explanation[-2:] == (
        "and 12 more steps of the ramp",
        "no guard: nothing is decided, only reported",
    )


PARAMETER = 'parameters { key: "naiad.experiment" value { string_value: %s } }'


def test_an_experiment_of_the_config_is_looked_at_too_and_needs_no_other_parameter(tmp_path: Path) -> None:
    text = json.dumps(json.dumps({"weights": {"1": 1, "2": 1}}))
    found = inspect(tmp_path, config=ADD_SUB_CONFIG + PARAMETER % text)
    assert found.ok
    assert report(found).source == "parameter naiad.experiment"
    assert report(found).versions_added == (1, 2)


BROKEN = {
    "value": ({"weights": {"2": -1}}, "experiment.json: weights.2 is -1, it must be 0 or more"),
    "folder": (
        {"weights": {"1": 1, "4": 1, "5": 1}},
        "experiment 'm' names versions 4, 5, of which there is no folder",
    ),
    "shadow": (
        {"weights": {"1": 1}, "shadow": {"version": 9}},
        "experiment 'm' names version 9, of which there is no folder",
    ),
    "text": ("{", "experiment.json is not JSON: Expecting property name enclosed in double quotes"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_told_with_what_to_do_and_the_versions_are_looked_at_all_the_same(
    case: str, tmp_path: Path
) -> None:
    content, reason = BROKEN[case]
    found = inspect(tmp_path, content)
    problem = report(found).problem
    assert problem is not None
    assert problem.stage is Stage.EXPERIMENT
    assert problem.reason.startswith(reason)
    assert "the version folders there are: 1, 2, 3; naiad ab schema" in problem.advice
    assert not found.ok
    assert [version.problem for version in found.models[0].versions] == [None]
    shown = plain_text(found)
    assert "m: BROKEN" in shown
    assert all(text in shown for text in (str(tmp_path / "m" / "experiment.json"), reason, problem.advice))


def test_a_broken_version_that_only_the_experiment_wants_is_told(tmp_path: Path) -> None:
    folder = add_model(tmp_path, "m", {1: b"no model", 2: add_sub()}, ADD_SUB_CONFIG)
    (folder / "experiment.json").write_text('{"weights": {"1": 1, "2": 1}}')
    inspector = Inspector(
        OrtEnvironment.detect(), CpuBudget(1, "a test"), auto_complete=True, default_max_batch_size=4
    )
    (model,) = inspector.inspect([tmp_path]).models
    assert not model.ok
    assert [version.problem is None for version in model.versions] == [False, True]
