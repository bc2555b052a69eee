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
    "session.use_device_allocator_for_initializers": (re.compile(r"[01]"), "0 or 1"),
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


def validate_parameters(parameters: Mapping[str, str], model_name: str) -> None:
    """Check the value of every key that ONNX Runtime will be given.

    Raises:
        InvalidArgumentError: names the key, the value and what is allowed.
    """
    for key, (pattern, allowed) in _RULES.items():
        value = parameters.get(key)
        if value is None:
            continue
        fits = pattern.fullmatch(value) is not None
        if not fits or (key.endswith("_thread_count") and int(value) > MAX_THREADS):
            raise InvalidArgumentError(
                f"parameter '{key}' of model '{model_name}' is '{value}', expected {allowed}"
            )


def list_unread(parameters: Mapping[str, str]) -> tuple[str, ...]:
    """One sentence for each key that looks meant for ONNX Runtime and that nobody reads.

    Keys under `session.` are the runtime's to report: it knows which of them it passes on.
    """
    notes = []
    for key in sorted(parameters):
        if key in _RULES or key.startswith(("naiad.", "session.")):
            continue
        nearest = difflib.get_close_matches(key, _RULES, n=1, cutoff=0.8)
        if nearest:
            notes.append(f"parameters '{key}' is not honoured: did you mean '{nearest[0]}'?")
        elif key.startswith("memory."):
            notes.append(f"parameters '{key}' is not honoured: no such key is passed to ONNX Runtime")
    return tuple(notes)
