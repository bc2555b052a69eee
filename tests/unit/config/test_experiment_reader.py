"""Reading an experiment: where it lies, and errors that name file, field, value and limit."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from naiad.config.experiment_config import MAX_KEYS
from naiad.config.experiment_reader import MAX_EXPERIMENT_BYTES, parse_experiment, read_experiment
from naiad.core.errors import InvalidArgumentError, NaiadError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.config.experiment_config import ExperimentConfig

WEIGHTS = {"1": 90, "2": 10}
TEXT = json.dumps({"weights": WEIGHTS})


def parse(content: Any) -> ExperimentConfig:
    text = content if isinstance(content, str) else json.dumps(content)
    return parse_experiment(text, source="experiment.json", model_name="m")


def refusal(content: Any) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        parse(content)
    return caught.value.message.removeprefix("experiment.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "repository" / "m"
    path.mkdir(parents=True)
    return path


def test_a_model_without_an_experiment_has_none(folder: Path) -> None:
    assert read_experiment(folder) is None
    assert read_experiment(folder, "") is None


def test_the_file_and_the_parameter_say_the_same_and_the_models_name_is_the_default(folder: Path) -> None:
    by_parameter = read_experiment(folder, TEXT)
    (folder / "experiment.json").write_text(TEXT)
    by_file = read_experiment(folder)
    assert by_parameter is not None
    assert by_parameter == by_file
    assert by_parameter.name == "m"


def test_given_twice_is_refused_even_where_both_say_the_same(folder: Path) -> None:
    (folder / "experiment.json").write_text(TEXT)
    with pytest.raises(
        InvalidArgumentError, match="given twice, as experiment.json and as parameter naiad.exp"
    ):
        read_experiment(folder, TEXT)


def test_an_error_of_the_parameter_names_the_parameter(folder: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^parameter naiad\.experiment: weights\.2 is -1, "):
        read_experiment(folder, '{"weights": {"2": -1}}')


def test_a_link_within_the_folder_is_followed_and_one_that_leads_out_is_not(folder: Path) -> None:
    path = folder / "experiment.json"
    (folder / "stored.json").write_text(TEXT)
    path.symlink_to("stored.json")
    assert read_experiment(folder) is not None
    path.unlink()
    (folder.parent / "stored.json").write_text(TEXT)
    path.symlink_to("../stored.json")
    with pytest.raises(UnsupportedError, match="leads out of the model's folder"):
        read_experiment(folder)


def test_a_folder_that_is_itself_a_link_keeps_its_experiment(folder: Path, tmp_path: Path) -> None:
    (folder / "experiment.json").write_text(TEXT)
    (tmp_path / "linked").symlink_to(folder)
    found = read_experiment(tmp_path / "linked")
    assert found is not None
    assert found.name == "linked"


def test_what_is_no_readable_file_is_refused_and_never_waited_for(folder: Path) -> None:
    path = folder / "experiment.json"
    for target in ("absent", "experiment.json", None):
        if target is None:
            os.mkfifo(path)
        else:
            path.symlink_to(target)
        with pytest.raises(InvalidArgumentError, match=r"experiment\.json"):
            read_experiment(folder)
        path.unlink()
    path.mkdir()
    with pytest.raises(InvalidArgumentError, match="no regular file"):
        read_experiment(folder)


def test_a_file_that_is_no_text_or_too_large_is_refused(folder: Path) -> None:
    path = folder / "experiment.json"
    path.write_bytes(b'{"name": "\xff"}')
    with pytest.raises(InvalidArgumentError, match="is not UTF-8 text: byte 10 is not valid"):
        read_experiment(folder)
    path.write_bytes(b" " * (MAX_EXPERIMENT_BYTES + 1))
    with pytest.raises(InvalidArgumentError, match=f"at most {MAX_EXPERIMENT_BYTES}"):
        read_experiment(folder)


def test_the_largest_list_of_keys_fits_into_the_largest_file() -> None:
    keys = [f"camera-{number:020}" for number in range(MAX_KEYS)]
    assert len(parse({"weights": WEIGHTS, "keys": {"2": keys}}).listed) == MAX_KEYS
    assert refusal({"weights": WEIGHTS, "keys": {"2": [*keys, "one more"]}}) == (
        f": keys lists {MAX_KEYS + 1} keys, the limit is {MAX_KEYS}"
    )


def test_a_schema_for_editors_may_be_named() -> None:
    assert parse({"$schema": "./schema.json", "weights": WEIGHTS}) == parse(TEXT)


REFUSALS: dict[str, tuple[Any, str]] = {
    "negative": ({"weights": {"2": -1}}, ": weights.2 is -1, it must be 0 or more"),
    "typo": ({"weigths": WEIGHTS}, ": unknown field weigths: did you mean weights?"),
    "typo inside": (
        {"weights": WEIGHTS, "guard": {"min_request": 1}},
        ": unknown field guard.min_request: did you mean min_requests?",
    ),
    "typo in a step": (
        {"weights": WEIGHTS, "ramp": [{"weights": WEIGHTS, "att": 1}]},
        ": ramp[0].at is missing; unknown field ramp[0].att: did you mean at?",
    ),
    "unlike any": (
        {"weights": WEIGHTS, "shadow": {"version": 2, "x": 1}},
        ": unknown field shadow.x: known fields are version, share, budget, keep_worst",
    ),
    "no version": (
        {"weights": {"02": 1}},
        ': weights.02 is "02", it must be a version\'s number, such as "2", from 0 to 9223372036854775807',
    ),
    "text": ({"weights": {"2": "10"}}, ': weights.2 is "10", it must be a number'),
    "truth": ({"weights": {"2": True}}, ": weights.2 is true, it must be a number"),
    "infinite": ('{"weights": {"2": 1e999}}', ": weights.2 is Infinity, it must be a finite number"),
    "too heavy": ({"weights": {"2": 1e10}}, ": weights.2 is 10000000000.0, it must be 1e+09 or less"),
    "fraction": ({"weights": WEIGHTS, "baseline": 1.5}, ": baseline is 1.5, it must be a whole number"),
    "no zone": (
        {"weights": WEIGHTS, "ramp": [{"at": "2026-12-01T10:00:00", "weights": WEIGHTS}]},
        ': ramp[0].at is "2026-12-01T10:00:00", it must be a time with its time zone, such as '
        '"2026-12-01T10:00:00Z"',
    ),
    "out of the calendar": (
        {"weights": WEIGHTS, "ramp": [{"at": "0001-01-01T00:00:00+01:00", "weights": WEIGHTS}]},
        ': ramp[0].at is "0001-01-01T00:00:00+01:00", it must be a time with its time zone, such as '
        '"2026-12-01T10:00:00Z"',
    ),
    "share": (
        {"weights": WEIGHTS, "shadow": {"version": 2, "share": 0}},
        ": shadow.share is 0, it must be above 0",
    ),
    "alpha": ({"weights": WEIGHTS, "guard": {"alpha": 0.7}}, ": guard.alpha is 0.7, it must be 0.5 or less"),
    "early promotion": (
        {"weights": WEIGHTS, "guard": {"promote_after": 5}},
        ": guard.promote_after is 5, it must be min_requests, 100, or more",
    ),
    "no list": ({"weights": WEIGHTS, "keys": {"2": "alice"}}, ': keys.2 is "alice", it must be a list'),
    "empty key": (
        {"weights": WEIGHTS, "keys": {"2": [""]}},
        ': keys.2[0] is "", it must be a text of 1 character or more',
    ),
    "NUL": (
        {"weights": WEIGHTS, "name": "a\0b"},
        ': name is "a\\u0000b", it must be a text without control characters',
    ),
    "half a character": (
        {"weights": WEIGHTS, "name": "\ud800"},
        ': name is "\\ud800", it must be a text of whole characters',
    ),
    "twice": ('{"weights": {"1": 1, "1": 2}}', " is not JSON: '1' is given twice"),
    "NaN": ('{"weights": {"1": NaN}}', " is not JSON: NaN is no JSON number"),
    "list": ([], " is not a JSON object"),
    "whole": ({}, ": it has neither weights nor shadow: give the versions' weights, or a version to shadow"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_each_wrong_value_is_told_with_its_field_and_what_it_must_be(case: str) -> None:
    content, reason = REFUSALS[case]
    assert refusal(content) == reason


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"weights": {"1": 1' + "0" * 5_000 + "}}"])
def test_what_is_no_json_is_refused_as_such(text: str) -> None:
    assert refusal(text).startswith(" is not JSON: ")


def test_of_many_errors_a_few_are_told_and_the_others_counted() -> None:
    weights = {str(version): -version for version in range(1, 10)}
    assert refusal({"weights": weights}).endswith("weights.4 is -4, it must be 0 or more; and 5 more")


def test_a_long_value_is_cut() -> None:
    message = refusal({"weights": WEIGHTS, "name": "x" * 5_000})
    assert message.endswith("… (5002 characters), it must be a text of 128 characters or fewer")
    assert len(message) < 200


@pytest.mark.parametrize(
    "content", [{"weights": {"1": 1}, "keys": 5}, {"ramp": {}}, {"shadow": 2}, {"guard": [1]}]
)
def test_whatever_is_of_another_type_is_one_of_our_errors(content: dict[str, Any]) -> None:
    with pytest.raises(NaiadError, match="it must be"):
        parse(content)
