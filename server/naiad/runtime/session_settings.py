"""What a model config says about its sessions: threads, memory, graph optimisation. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from naiad.config.parameters import SESSION_ENTRIES
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from naiad.config.model_config import ModelConfig

Default = TypeVar("Default", bool, None)

_FLAGS = {"0": False, "1": True, "false": False, "true": True}
_EXECUTION_MODES = {"0": False, "1": True}

# Triton's order, which is not ONNX Runtime's; anything else, or nothing, is all of them.
_OPTIMIZATION_LEVELS = {-1: "ORT_ENABLE_BASIC", 1: "ORT_ENABLE_EXTENDED", 2: "ORT_DISABLE_ALL"}
_ALL_OPTIMIZATIONS = "ORT_ENABLE_ALL"


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """The session settings that a config names; None where it leaves the choice to the server.

    `optimization` is the name of ONNX Runtime's level, `entries` its session config, `arena_shrinkage` the
    devices whose arena shrinks after each run (`cpu:0;gpu:0`). `memory_pattern` None keeps a plan of the
    arena's use only for models of fixed shapes: the plans of shapes that never come again are never freed.
    """

    parallel: bool = False
    intra_op_threads: int | None = None
    inter_op_threads: int | None = None
    memory_arena: bool = True
    memory_pattern: bool | None = None
    optimization: str = _ALL_OPTIMIZATIONS
    entries: Mapping[str, str] = field(default_factory=dict)
    arena_shrinkage: str | None = None


def read_session_settings(config: ModelConfig) -> SessionSettings:
    """The settings in `parameters` and `optimization.graph`.

    Raises:
        InvalidArgumentError: a value is not one of its key's.
    """
    parameters = config.parameters
    return SessionSettings(
        parallel=_choice(parameters, "execution_mode", _EXECUTION_MODES, default=False),
        intra_op_threads=_count(parameters, "intra_op_thread_count"),
        inter_op_threads=_count(parameters, "inter_op_thread_count"),
        memory_arena=_choice(parameters, "enable_mem_arena", _FLAGS, default=True),
        memory_pattern=_choice(parameters, "enable_mem_pattern", _FLAGS, default=None),
        optimization=_OPTIMIZATION_LEVELS.get(config.graph_level or 0, _ALL_OPTIMIZATIONS),
        entries={key: _entry(key, parameters[key]) for key in sorted(parameters.keys() & SESSION_ENTRIES)},
        arena_shrinkage=parameters.get("memory.enable_memory_arena_shrinkage") or None,
    )


def _choice(
    parameters: Mapping[str, str], key: str, values: Mapping[str, bool], *, default: Default
) -> bool | Default:
    value = parameters.get(key)
    if value is None:
        return default
    if value.lower() not in values:
        raise InvalidArgumentError(f"parameter '{key}' is '{value}', expected one of {', '.join(values)}")
    return values[value.lower()]


def _entry(key: str, value: str) -> str:
    pattern, allowed = SESSION_ENTRIES[key]
    if not pattern.fullmatch(value):
        raise InvalidArgumentError(f"parameter '{key}' is '{value}', expected {allowed}")
    return value


def _count(parameters: Mapping[str, str], key: str) -> int | None:
    value = parameters.get(key)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise InvalidArgumentError(f"parameter '{key}' is '{value}', expected a positive number of threads")
    return int(value)
