"""The schema of `experiment.json`: what it fills in, what contradicts itself, and what its digest depends on."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from naiad.config.experiment_config import MAX_VERSIONS, ExperimentConfig, GuardConfig, ShadowConfig

WEIGHTS = {"1": 90, "2": 10}
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def experiment(**fields: Any) -> ExperimentConfig:
    return ExperimentConfig.model_validate(fields)


def refusal(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        experiment(**fields)
    return str(caught.value)


def test_versions_are_numbers_and_the_lowest_of_those_that_answer_is_the_baseline() -> None:
    config = experiment(weights={"3": 1, "12": 1}, shadow={"version": 2})
    assert config.weights == {3: 1.0, 12: 1.0}
    assert (config.baseline, config.candidates, config.answering) == (3, (2, 12), (3, 12))
    assert config.versions == (2, 3, 12)


def test_a_named_baseline_is_kept_and_answers_even_without_a_weight() -> None:
    config = experiment(baseline=2, weights={"1": 1})
    assert (config.baseline, config.candidates, config.answering) == (2, (1,), (1, 2))


def test_a_shadow_alone_leaves_all_requests_to_the_baseline() -> None:
    config = experiment(baseline=1, shadow={"version": 2})
    assert config.weights_at(0.0) == {1: 1.0}
    assert (config.shadow, config.shadow_version) == (ShadowConfig(version=2), 2)
    assert (config.answering, config.candidates) == ((1,), (2,))


def test_a_shadow_alone_does_not_say_who_serves() -> None:
    assert "baseline is missing" in refusal(shadow={"version": 2})


def test_it_can_be_made_in_code_as_json_makes_it() -> None:
    assert ExperimentConfig(weights={1: 90, 2: 10}, keys={2: ("a",)}) == experiment(
        weights=WEIGHTS, keys={"2": ["a"]}
    )


def test_weights_follow_the_ramp() -> None:
    config = experiment(
        weights=WEIGHTS,
        ramp=[
            {"at": "2026-01-01T00:00:00Z", "weights": {"1": 50, "2": 50}},
            {"at": "2026-01-01T01:00:00+00:30", "weights": {"2": 1}},
        ],
    )
    seen = [config.weights_at(NEW_YEAR + seconds) for seconds in (-1, 0, 1799, 1800)]
    assert seen == [{1: 90, 2: 10}, {1: 50, 2: 50}, {1: 50, 2: 50}, {2: 1}]
    due = [config.next_change(NEW_YEAR + seconds) for seconds in (-1, 0, 1800)]
    assert due == [NEW_YEAR, NEW_YEAR + 1800, None]


def test_a_guard_has_the_documented_limits_unless_they_are_switched_off() -> None:
    guard = experiment(weights=WEIGHTS, guard={"max_latency_ratio": None, "min_requests": 5}).guard
    assert guard is not None
    assert guard == GuardConfig(max_latency_ratio=None, min_requests=5)
    assert (guard.max_error_rate_increase, guard.min_cosine, guard.alpha) == (0.01, None, 0.05)


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "neither weights nor shadow"),
    "all zero": ({"weights": {"1": 0, "2": 0}}, "weights are all 0"),
    "all zero later": (
        {"weights": WEIGHTS, "ramp": [{"at": "2026-01-01T00:00:00Z", "weights": {"1": 0}}]},
        "ramp[0].weights are all 0",
    ),
    "shadowed baseline": (
        {"weights": WEIGHTS, "shadow": {"version": 1}},
        "shadow.version is 1, the baseline",
    ),
    "keys of nobody": ({"weights": WEIGHTS, "keys": {"3": ["a"]}}, "keys.3 names a version that is neither"),
    "a key twice": ({"weights": WEIGHTS, "keys": {"1": ["a"], "2": ["a"]}}, "'a' for versions 1 and 2"),
    "ramp back": (
        {
            "weights": WEIGHTS,
            "ramp": [
                {"at": "2026-01-01T02:00:00+02:00", "weights": WEIGHTS},
                {"at": "2026-01-01T00:00:00Z", "weights": WEIGHTS},
            ],
        },
        "ramp[1].at is 2026-01-01T00:00:00+00:00, it must be later",
    ),
    "guard of nobody": ({"weights": {"1": 1}, "guard": {}}, "no candidate to judge"),
    "promoted too early": (
        {"weights": WEIGHTS, "guard": {"promote_after": 50}},
        "promote_after is 50, it must be min_requests, 100, or more",
    ),
    "too many versions": (
        {"weights": {str(version): 1 for version in range(MAX_VERSIONS + 1)}},
        f"names {MAX_VERSIONS + 1} versions, the limit is {MAX_VERSIONS}",
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_what_contradicts_itself_is_refused_with_the_reason(case: str) -> None:
    fields, reason = CONTRADICTIONS[case]
    assert reason in refusal(**fields)


def test_the_digest_is_of_what_is_meant_and_not_of_how_it_is_written() -> None:
    plain = experiment(name="m", weights=WEIGHTS, keys={"2": ["a", "b"]})
    spelt_out = experiment(
        keys={"2": ["b", "a"]}, weights={"2": 10.0, "1": 90}, baseline=1, ramp=[], guard=None, name="m"
    )
    assert plain.digest == spelt_out.digest


@pytest.mark.parametrize(
    "other",
    [
        {"weights": {"1": 91, "2": 10}},
        {"baseline": 2},
        {"name": "n"},
        {"guard": {}},
        {"shadow": {"version": 3}},
        {"keys": {"2": ["a"]}},
        {"ramp": [{"at": "2026-01-01T00:00:00Z", "weights": WEIGHTS}]},
    ],
)
def test_the_digest_changes_with_whatever_is_said(other: dict[str, Any]) -> None:
    assert experiment(**{"weights": WEIGHTS, "name": "m"} | other).digest != DIGEST


DIGEST = "b5a62b00baa5ff70"
"""Of `{"name": "m", "weights": {"1": 90, "2": 10}}`: a release that changes it forgets every decision."""


def test_the_digest_is_the_same_in_every_process_and_release() -> None:
    code = (
        "from naiad.config.experiment_config import ExperimentConfig\n"
        "print(ExperimentConfig(name='m', weights={1: 90, 2: 10}).digest)"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert experiment(name="m", weights=WEIGHTS).digest == other.stdout.strip() == DIGEST


def test_the_published_schema_describes_every_field_and_forbids_others() -> None:
    schema = ExperimentConfig.model_json_schema()
    parts = [schema, *schema["$defs"].values()]
    assert {part["title"] for part in parts} == {"experiment.json", "GuardConfig", "RampStep", "ShadowConfig"}
    for part in parts:
        assert part["additionalProperties"] is False
        fields = part["properties"].values()
        assert all("description" in field or "$ref" in str(field) for field in fields), part["title"]
    assert schema["properties"]["weights"]["propertyNames"]["pattern"] == "^(0|[1-9][0-9]{0,18})$"
    assert schema["anyOf"] == [{"required": ["weights"]}, {"required": ["shadow"]}]
