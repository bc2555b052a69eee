"""`--backend-config [BACKEND,]KEY=VALUE`: which keys count, change nothing, or are refused."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_MAX_BATCH_SIZE = "default-max-batch-size"
_BACKEND = "onnxruntime"
_THREADS = "threads are given by --cpu-threads and by the model's own parameters"
WITHOUT_EFFECT = {
    "": {
        "min-compute-capability": "every GPU that the installed ONNX Runtime can use is used",
        "backend-directory": "no backend library is loaded",
        "auto-complete-config": "--disable-auto-complete-config switches it off",
    },
    _BACKEND: {
        "min-compute-capability": "every GPU that the installed ONNX Runtime can use is used",
        "backend-directory": "no backend library is loaded",
        "enable-global-threadpool": _THREADS,
        "intra_op_thread_count": _THREADS,
        "inter_op_thread_count": _THREADS,
    },
}
"""Keys by backend, "" being all of them, that change nothing a client can see, and why."""


def parse_backend_config(entries: Iterable[str]) -> dict[str, int]:
    """The settings that count, by key; onnxruntime's own beat those of all backends.

    Raises:
        ValueError: an entry has another form, an unknown key, or a value that is no whole number from 0.
    """
    found: dict[str, dict[str, int]] = {"": {}, _BACKEND: {}}
    for entry in entries:
        backend, key, value = _parts(entry)
        if backend in found and key not in WITHOUT_EFFECT[backend]:
            found[backend][_known(key, backend)] = _number(entry, value)
    return found[""] | found[_BACKEND]


def list_without_effect(entries: Iterable[str]) -> tuple[str, ...]:
    """One sentence for each entry that changes nothing here, naming it and why."""
    reasons = {entry: _reason(*_parts(entry)[:2]) for entry in entries}
    return tuple(
        f"--backend-config={entry} has no effect: {reason}" for entry, reason in reasons.items() if reason
    )


def _reason(backend: str, key: str) -> str | None:
    if backend not in WITHOUT_EFFECT:
        return f"backend '{backend}' is not served, models run on {_BACKEND}"
    return WITHOUT_EFFECT[backend].get(key)


def _parts(entry: str) -> tuple[str, str, str]:
    """Backend ("" when none is named), key and value."""
    setting, equals, value = entry.partition("=")
    backend, comma, key = setting.rpartition(",")
    if not (equals and key and value) or (comma and not backend):
        raise ValueError(f"'{entry}' should be KEY=VALUE or BACKEND,KEY=VALUE")
    return backend, key, value


def _known(key: str, backend: str) -> str:
    if key == DEFAULT_MAX_BATCH_SIZE:
        return key
    known = [DEFAULT_MAX_BATCH_SIZE, *WITHOUT_EFFECT[backend]]
    near = difflib.get_close_matches(key, known, n=1) or sorted(known)
    raise ValueError(f"unknown key '{key}'; known: {', '.join(near)}")


def _number(entry: str, value: str) -> int:
    if not value.isdecimal():
        raise ValueError(f"'{entry}': '{value}' should be a whole number from 0")
    return int(value)
