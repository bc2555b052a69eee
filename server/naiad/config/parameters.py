"""ONNX Runtime's keys among a config's `parameters`: their values, checked before a session is opened."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_THREADS = 1024

_BOOLEAN = (re.compile(r"true|false|0|1", re.IGNORECASE), "0, 1, true or false")
_COUNT = (re.compile(r"[1-9][0-9]{0,3}"), f"a whole number from 1 to {MAX_THREADS}")
_RULES = {
    "execution_mode": (re.compile(r"[01]"), "0 (sequential) or 1 (parallel)"),
    "intra_op_thread_count": _COUNT,
    "inter_op_thread_count": _COUNT,
    "enable_mem_arena": _BOOLEAN,
    "enable_mem_pattern": _BOOLEAN,
    "memory.enable_memory_arena_shrinkage": (
        re.compile(r"(cpu|gpu):[0-9]+(;(cpu|gpu):[0-9]+)*"),
        "devices such as cpu:0;gpu:0",
    ),
    "cudnn_conv_algo_search": (re.compile(r"[012]"), "0 (exhaustive), 1 (heuristic) or 2 (default)"),
    "gpu_mem_limit": (re.compile(r"[0-9]{1,20}"), "a number of bytes"),
    "arena_extend_strategy": (re.compile(r"[01]"), "0 (next power of two) or 1 (as requested)"),
    "do_copy_in_default_stream": _BOOLEAN,
}
"""What Triton's ONNX Runtime backend reads: the whole value must match."""


SESSION_PREFIX = "session."
_SWITCH = (re.compile(r"[01]"), "0 or 1")
_NUMBER = (re.compile(r"[0-9]{1,9}"), "a whole number")
# Others are left out: some of them read or write files, and a config may come from a caller.
SESSION_ENTRIES = {
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
"""ONNX Runtime's session settings that a config may make, and their values; Triton reads the first alone."""

_OTHER_NAMES = {
    "intra_op_num_threads": "'intra_op_thread_count'",
    "inter_op_num_threads": "'inter_op_thread_count'",
    "enable_cpu_mem_arena": "'enable_mem_arena'",
    "graph_optimization_level": "optimization { graph { level: … } }",
}
"""What ONNX Runtime's own interface calls these settings."""


def parameters_with_values() -> dict[str, str]:
    """Every key that is read, beside those of Naiad's own, and what its value may be."""
    return {key: allowed for key, (_, allowed) in (_RULES | SESSION_ENTRIES).items()}


def validate_parameters(parameters: Mapping[str, str], model_name: str) -> None:
    """Check the value of every key that ONNX Runtime will be given.

    Raises:
        InvalidArgumentError: names the key, the value and what is allowed.
    """
    for key, (pattern, allowed) in (_RULES | SESSION_ENTRIES).items():
        value = parameters.get(key)
        if value is None:
            continue
        fits = pattern.fullmatch(value) is not None
        if not fits or (key.endswith("_thread_count") and int(value) > MAX_THREADS):
            raise InvalidArgumentError(
                f"parameter '{key}' of model '{model_name}' is '{value}', expected {allowed}"
            )


def list_unread(parameters: Mapping[str, str]) -> tuple[str, ...]:
    """One sentence for each key that looks meant for ONNX Runtime and that nobody reads."""
    return tuple(
        f"parameters '{key}' is not honoured: {why}"
        for key in sorted(parameters)
        if not key.startswith("naiad.") and (why := _unread(key))
    )


def _unread(key: str) -> str:
    """Why nobody reads the key; empty if it is read, or is none of ONNX Runtime's."""
    known = _RULES | SESSION_ENTRIES
    if key in known:
        return ""
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
    meant = _OTHER_NAMES.get(key) or (f"'{nearest[0]}'" if nearest else "")
    if meant:
        return f"did you mean {meant}?"
    is_the_engines = key.startswith(("memory.", SESSION_PREFIX))
    return "no such key is passed to ONNX Runtime" if is_the_engines else ""
