"""Reads a model's experiment from its folder or its config, and words what is wrong with it."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from naiad.config.experiment_config import ExperimentConfig, GuardConfig, RampStep, ShadowConfig
from naiad.config.runtime_keys import EXPERIMENT
from naiad.config.strict_json import parse_object
from naiad.core.errors import InvalidArgumentError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

EXPERIMENT_FILENAME = "experiment.json"
MAX_EXPERIMENT_BYTES = 4 * 2**20
"""The largest experiment that is read; 100 000 keys of camera names take half of it."""

PARAMETER_SOURCE = f"parameter {EXPERIMENT}"

_MAX_TOLD = 4
_MAX_SHOWN = 80
_PARTS: Mapping[str, type[BaseModel]] = {"ramp": RampStep, "shadow": ShadowConfig, "guard": GuardConfig}
_KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "string_unicode": "a text of whole characters",
    "string_pattern_mismatch": "a text without control characters",
    "bool_type": "true or false",
    "dict_type": "an object",
    "model_type": "an object",
    "tuple_type": "a list",
}
_BOUNDS = {
    "greater_than": "above {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "below {lt:g}",
    "less_than_equal": "{le:g} or less",
}
_LENGTHS = {
    "string_too_short": "a text of {min_length} character or more",
    "string_too_long": "a text of {max_length} characters or fewer",
    "too_long": "{max_length} or fewer",
}


def read_experiment(folder: Path, parameter: str | None = None) -> ExperimentConfig | None:
    """The experiment on the model in `folder`; None if there is none.

    Args:
        folder: the model's; its name is the experiment's where that has none.
        parameter: the config's `naiad.experiment`, JSON as in `experiment.json`; None or empty for none.

    Raises:
        InvalidArgumentError: it is given twice, cannot be read, is too large, is no JSON, or has a wrong
            value; names the file or the parameter, the field, its value and the limit.
        UnsupportedError: the file is outside the folder, after its links have been followed.
    """
    text = _read_file(folder)
    if text is None:
        if not parameter:
            return None
        return parse_experiment(parameter, source=PARAMETER_SOURCE, model_name=folder.name)
    if parameter:
        raise InvalidArgumentError(
            f"the experiment on model '{folder.name}' is given twice, as {EXPERIMENT_FILENAME} and as "
            f"{PARAMETER_SOURCE}: remove one of the two"
        )
    return parse_experiment(text, source=EXPERIMENT_FILENAME, model_name=folder.name)


def parse_experiment(text: str, *, source: str, model_name: str) -> ExperimentConfig:
    """The experiment that `text` spells.

    Args:
        text: JSON; a `$schema` in it is for editors.
        source: what to call it in an error.
        model_name: the experiment's name where it has none.

    Raises:
        InvalidArgumentError: names `source`, the field, its value and the limit.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_EXPERIMENT_BYTES:
        raise _too_large(source, f"{size}")
    content = {"name": model_name} | parse_object(text, source)
    content.pop("$schema", None)
    try:
        return ExperimentConfig.model_validate(content)
    except ValidationError as error:
        raise InvalidArgumentError(f"{source}: {_explain(error)}") from None


def _read_file(folder: Path) -> str | None:
    """The text of `experiment.json`; None if there is no such file. A dangling link is an error."""
    path = folder / EXPERIMENT_FILENAME
    try:
        if not path.exists() and not path.is_symlink():
            return None
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UnsupportedError(f"{path} leads out of the model's folder: copy the file to there")
        if not path.is_file():  # a pipe would block the loader for ever
            raise InvalidArgumentError(f"{path} is not there, or no regular file")
        with path.open("rb") as file:
            content = file.read(MAX_EXPERIMENT_BYTES + 1)
        if len(content) > MAX_EXPERIMENT_BYTES:
            raise _too_large(str(path), f"more than {MAX_EXPERIMENT_BYTES}")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"{path} is not UTF-8 text: byte {error.start} is not valid") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: Python 3.11's word for a loop of links
        raise InvalidArgumentError(f"cannot read {path}: {error}") from error


def _too_large(source: str, size: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{source} has {size} bytes, an experiment at most {MAX_EXPERIMENT_BYTES}")


def _explain(error: ValidationError) -> str:
    """What is wrong, at most `_MAX_TOLD` things and how many more there are."""
    # A default that is made of other fields says nothing of its own when one of those is wrong.
    wrong = [detail for detail in error.errors() if detail["type"] != "default_factory_not_called"]
    told = [_sentence(detail) for detail in wrong[:_MAX_TOLD]]
    more = len(wrong) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")


def _sentence(detail: Any) -> str:
    kind, location, value = detail["type"], detail["loc"], detail["input"]
    if kind == "extra_forbidden":
        return _unknown(location)
    if kind == "missing":
        return f"{_path(location)} is missing"
    reason = str(detail["msg"]).removeprefix("Value error, ")
    if kind == "value_error" and isinstance(
        value, BaseModel | dict
    ):  # it begins with the field that it means
        return f"{_path(location)}.{reason}" if location else reason
    context = detail.get("ctx", {})
    if kind in _BOUNDS:
        reason = f"it must be {_BOUNDS[kind].format(**context)}"
    elif kind in _LENGTHS:
        reason = f"it must be {_LENGTHS[kind].format(**context)}"
    elif kind in _KINDS:
        reason = f"it must be {_KINDS[kind]}"
    return f"{_path(location)} is {_shown(value)}, {reason}"


def _unknown(location: Sequence[int | str]) -> str:
    part = _PARTS.get(str(location[0]), ExperimentConfig) if len(location) > 1 else ExperimentConfig
    near = difflib.get_close_matches(str(location[-1]), part.model_fields, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known fields are {', '.join(part.model_fields)}"
    return f"unknown field {_path(location)}: {hint}"


def _path(location: Sequence[int | str]) -> str:
    """`ramp[0].weights.2`; what is said of an object's key is said of its entry."""
    steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in location if step != "[key]"]
    return "".join(steps).removeprefix(".")


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = str(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}… ({len(text)} characters)"
