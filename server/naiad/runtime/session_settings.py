"""What a model config says about its sessions: threads, memory, graph optimisation. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

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

_ENTRY_PREFIX = "session."
_SWITCH = re.compile(r"[01]")
_NUMBER = re.compile(r"[0-9]{1,9}")
# Others are left out: some of them read or write files, and a config may come from a caller.
_ENTRIES = {
    "session.use_device_allocator_for_initializers": _SWITCH,
    "session.intra_op.allow_spinning": _SWITCH,
    "session.inter_op.allow_spinning": _SWITCH,
    "session.intra_op.spin_duration_us": _NUMBER,
    "session.inter_op.spin_duration_us": _NUMBER,
    "session.force_spinning_stop": _SWITCH,
    "session.set_denormal_as_zero": _SWITCH,
    "session.disable_prepacking": _SWITCH,
    "session.dynamic_block_base": _NUMBER,
    "session.strict_shape_type_inference": _SWITCH,
    "session.disable_aot_function_inlining": _SWITCH,
    "session.disable_quant_qdq": _SWITCH,
    "session.disable_qdq_constant_folding": _SWITCH,
    "session.disable_double_qdq_remover": _SWITCH,
    "session.enable_quant_qdq_cleanup": _SWITCH,
    "session.qdqisint8allowed": _SWITCH,
    "session.x64quantprecision": _SWITCH,
}
"""The engine's session settings that a config may make, and their values."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """The session settings that a config names; None where it leaves the choice to the server.

    `optimization` is the name of ONNX Runtime's level, `entries` its session config, `arena_shrinkage` the
    devices whose arena shrinks after each run (`cpu:0;gpu:0`). `memory_pattern` None keeps a plan of the
    arena's use only for models of fixed shapes: the plans of shapes that never come again are never freed.
    `notes` name what is not honoured.
    """

    parallel: bool = False
    intra_op_threads: int | None = None
    inter_op_threads: int | None = None
    memory_arena: bool = True
    memory_pattern: bool | None = None
    optimization: str = _ALL_OPTIMIZATIONS
    entries: Mapping[str, str] = field(default_factory=dict)
    arena_shrinkage: str | None = None
    notes: tuple[str, ...] = ()


def read_session_settings(config: ModelConfig) -> SessionSettings:
    """The settings in `parameters` and `optimization.graph`.

    Raises:
        InvalidArgumentError: a value is not one of its key's.
    """
    parameters = config.parameters
    named = sorted(key for key in parameters if key.startswith(_ENTRY_PREFIX))
    return SessionSettings(
        parallel=_choice(parameters, "execution_mode", _EXECUTION_MODES, default=False),
        intra_op_threads=_count(parameters, "intra_op_thread_count"),
        inter_op_threads=_count(parameters, "inter_op_thread_count"),
        memory_arena=_choice(parameters, "enable_mem_arena", _FLAGS, default=True),
        memory_pattern=_choice(parameters, "enable_mem_pattern", _FLAGS, default=None),
        optimization=_OPTIMIZATION_LEVELS.get(config.graph_level or 0, _ALL_OPTIMIZATIONS),
        entries={key: _entry(key, parameters[key]) for key in named if key in _ENTRIES},
        arena_shrinkage=parameters.get("memory.enable_memory_arena_shrinkage") or None,
        notes=tuple(f"the parameter '{key}' is not honoured" for key in named if key not in _ENTRIES),
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
    if not _ENTRIES[key].fullmatch(value):
        expected = "0 or 1" if _ENTRIES[key] is _SWITCH else "a whole number"
        raise InvalidArgumentError(f"parameter '{key}' is '{value}', expected {expected}")
    return value


def _count(parameters: Mapping[str, str], key: str) -> int | None:
    value = parameters.get(key)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and int(value) > 0):
        raise InvalidArgumentError(f"parameter '{key}' is '{value}', expected a positive number of threads")
    return int(value)
