"""The name of an engine in the cache: a digest of everything that it was made from and for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from naiad.core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from naiad.runtime.graph import PreparedModel
    from naiad.runtime.tensorrt.device import GpuKind

_FORMAT = 1

# They say where things lie and what is told, and change nothing about an engine.
_WITHOUT_EFFECT = frozenset(
    {
        "device_id",
        "trt_detailed_build_log",
        "trt_engine_cache_enable",
        "trt_engine_cache_path",
        "trt_timing_cache_enable",
        "trt_timing_cache_path",
    }
)


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What an engine depends on. `model` is a digest of its files, `optimization` the graph's level."""

    model: str
    options: Mapping[str, str]
    gpu: GpuKind
    tensorrt: str
    onnxruntime: str
    optimization: str = ""


def engine_key(facts: EngineFacts) -> str:
    """The engine's name: 64 hexadecimal digits."""
    options = {key: value for key, value in facts.options.items() if key not in _WITHOUT_EFFECT}
    return _digest(
        model=facts.model,
        options=options,
        gpu=list(facts.gpu),
        tensorrt=facts.tensorrt,
        onnxruntime=facts.onnxruntime,
        optimization=facts.optimization,
    )


def timing_key(gpu: GpuKind, tensorrt: str) -> str:
    """The name of the timing cache, which all models of one kind of GPU share."""
    return _digest(gpu=list(gpu), tensorrt=tensorrt)


def model_digest(path: Path, prepared: PreparedModel) -> str:
    """A digest of a model's content: what the engine is given, and every other file beside the model file.

    Weights in files of their own and calibration tables lie there. Reads all of it.

    Raises:
        UnavailableError: a file cannot be read.
    """
    total = hashlib.sha256()
    if isinstance(prepared.source, bytes):
        total.update(hashlib.sha256(prepared.source).digest())
    try:
        for file in _files(path):
            total.update(str(file.relative_to(path.parent)).encode() + b"\0")
            total.update(bytes.fromhex(file_digest(file)))
    except OSError as error:
        raise UnavailableError(
            f"unable to read '{error.filename}' of model '{path}': {error.strerror}"
        ) from error
    return total.hexdigest()


def file_digest(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(**said: object) -> str:
    return hashlib.sha256(json.dumps({"format": _FORMAT, **said}, sort_keys=True).encode()).hexdigest()


def _files(path: Path) -> Iterator[Path]:
    yield from sorted(file for file in path.parent.rglob("*") if file.is_file())
