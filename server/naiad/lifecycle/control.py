"""Who may load and unload models, with what, and how a refusal or a failure is worded. Pure."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from naiad.core import errors
from naiad.core.errors import (
    CallerFaultError,
    InvalidArgumentError,
    NaiadError,
    NotFoundError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

UNLOADED = "unloaded"
"""Why a version is unavailable that was taken out of service on purpose."""

EVERY_MODEL = "*"
"""Stands for every model of the repositories among the models to load at start."""

_CODE_TEXTS: dict[type[NaiadError], str] = {
    errors.InvalidArgumentError: "Invalid argument",
    errors.NotFoundError: "Not found",
    errors.AlreadyExistsError: "Already exists",
    errors.UnsupportedError: "Unsupported",
    errors.UnavailableError: "Unavailable",
    errors.InternalError: "Internal",
}


class ControlMode(Enum):
    """When models are loaded and unloaded after the start; the value is the flag's."""

    NONE = "none"  # never
    POLL = "poll"  # when their folders change
    EXPLICIT = "explicit"  # when a client asks


@dataclass(frozen=True, slots=True)
class LoadOverride:
    """What a load request brings along in place of the repository's.

    `config` is JSON, None if the request has none; `files` has contents by path inside the model's folder,
    such as `1/model.onnx`.
    """

    config: str | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


def check_controllable(mode: ControlMode) -> None:
    """Raise UnavailableError unless models are loaded when clients ask. Triton's words, for `none` too."""
    if mode is not ControlMode.EXPLICIT:
        raise UnavailableError("explicit model load / unload is not allowed if polling is enabled")


def check_model_name(name: str) -> None:
    """Raise InvalidArgumentError unless a model of that name could be in a repository."""
    trimmed = name.strip()
    if not trimmed:
        raise InvalidArgumentError("Model name cannot be empty. Please enter a valid name to deploy.")
    if "/" in trimmed or trimmed == "..":
        raise InvalidArgumentError(
            f"invalid model name '{name}', model name must not contain path traversal characters"
        )


def names_at_start(mode: ControlMode, load_models: Sequence[str]) -> tuple[str, ...] | None:
    """The models to load at start, each once; None stands for every one.

    Args:
        mode: the control mode.
        load_models: what `--load-model` names.

    Raises:
        InvalidArgumentError: names are given in another mode than explicit, or others beside `*`.
    """
    names = tuple(dict.fromkeys(load_models))
    if mode is not ControlMode.EXPLICIT:
        if names:
            raise InvalidArgumentError(
                f"--load-model={names[0]} needs --model-control-mode=explicit, it is {mode.value}"
            )
        return None
    if EVERY_MODEL not in names:
        return names
    if len(names) > 1:
        raise InvalidArgumentError(
            f"--load-model=* is every model and must stand alone, given were {', '.join(names)}"
        )
    return None


def missing_model(name: str, roots: Iterable[object], known: Iterable[str]) -> NotFoundError:
    """What is known of a model that is to be loaded at start and has no folder."""
    near = difflib.get_close_matches(name, list(known))
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    places = ", ".join(map(str, roots))
    return NotFoundError(f"--load-model={name}: there is no such folder in {places}{meant}")


def poll_failure(name: str) -> CallerFaultError:
    """What a client is told when the model's folder or config cannot be read; the log says why."""
    return CallerFaultError(f"failed to load '{name}', failed to poll from model repository")


def load_failure(name: str, failed: Mapping[int, NaiadError]) -> InvalidArgumentError:
    """What a client is told when versions of the model could not be loaded."""
    clauses = (
        f"version {version} is at UNAVAILABLE state: {titled(error)};\n"
        for version, error in sorted(failed.items())
    )
    return InvalidArgumentError(f"load failed for model '{name}': {''.join(clauses)}")


def policy_failure(name: str, error: NaiadError) -> InvalidArgumentError:
    """What a client is told when the version policy selects nothing."""
    return InvalidArgumentError(f"load failed for model '{name}': {error.message}\n")


def titled(reason: NaiadError | str) -> str:
    """An error as the repository index words it: `Invalid argument: …`."""
    if isinstance(reason, str):
        return reason
    title = next((_CODE_TEXTS[kind] for kind in type(reason).__mro__ if kind in _CODE_TEXTS), "Unknown")
    return f"{title}: {reason.message}"
