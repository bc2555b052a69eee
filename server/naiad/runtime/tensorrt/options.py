"""TensorRT's provider options from the `tensorrt` accelerator's parameters. One table; pure."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Final

from naiad.core.errors import InvalidArgumentError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_WORKSPACE_BYTES = 2**63 - 1
MAX_INTEGER = 2**31 - 1

_TRUE, _FALSE = "True", "False"
"""The engine's Python binding takes these words for a boolean, and no others."""


class Precision(Enum):
    """What an engine may compute in; its value is Triton's `precision_mode`."""

    FP32 = "FP32"
    FP16 = "FP16"
    BF16 = "BF16"
    INT8 = "INT8"


FP16_ENABLE: Final = "trt_fp16_enable"
BF16_ENABLE: Final = "trt_bf16_enable"
INT8_ENABLE: Final = "trt_int8_enable"
CALIBRATION_TABLE: Final = "trt_int8_calibration_table_name"
ENGINE_CACHE: Final = "trt_engine_cache_enable"
ENGINE_CACHE_PATH: Final = "trt_engine_cache_path"
TIMING_CACHE: Final = "trt_timing_cache_enable"
TIMING_CACHE_PATH: Final = "trt_timing_cache_path"
CUDA_GRAPH: Final = "trt_cuda_graph_enable"
PROFILE_MIN: Final = "trt_profile_min_shapes"
PROFILE_OPT: Final = "trt_profile_opt_shapes"
PROFILE_MAX: Final = "trt_profile_max_shapes"
PROFILES: Final = (PROFILE_MIN, PROFILE_OPT, PROFILE_MAX)

_PRECISION_OPTIONS: dict[Precision, dict[str, str]] = {
    Precision.FP32: {},
    Precision.FP16: {FP16_ENABLE: _TRUE},
    Precision.BF16: {BF16_ENABLE: _TRUE},
    Precision.INT8: {INT8_ENABLE: _TRUE},
}

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_SHAPES = re.compile(r"[^,]+:\d{1,9}(x\d{1,9})*(,[^,]+:\d{1,9}(x\d{1,9})*)*")


def _flag(key: str, value: str) -> str:
    word = value.lower()
    if word in ("1", "true"):
        return _TRUE
    if word in ("0", "false"):
        return _FALSE
    raise _wrong(key, value, "0, 1, true or false")


def _integer(key: str, value: str, low: int = 0, high: int = MAX_INTEGER) -> str:
    if not re.fullmatch(r"-?[0-9]{1,20}", value) or not low <= int(value) <= high:
        raise _wrong(key, value, f"a whole number from {low} to {high}")
    return str(int(value))


def _between(low: int, high: int) -> Callable[[str, str], str]:
    return lambda key, value: _integer(key, value, low, high)


def _name(key: str, value: str) -> str:
    # The engine joins it to a folder: a path would lead out of there.
    if not _PLAIN_NAME.fullmatch(value):
        raise _wrong(key, value, "a plain name of letters, digits, '_', '-' and '.'")
    return value


def _shapes(key: str, value: str) -> str:
    if not _SHAPES.fullmatch(value):
        raise _wrong(key, value, "NAME:DIMxDIM…[,NAME:DIMxDIM…]")
    return value


def _text(key: str, value: str) -> str:
    if "\0" in value:
        raise _wrong(key, value, "text")
    return value


_KEYS: dict[str, tuple[str, Callable[[str, str], str]]] = {
    "max_workspace_size_bytes": ("trt_max_workspace_size", _between(0, MAX_WORKSPACE_BYTES)),
    "int8_calibration_table_name": (CALIBRATION_TABLE, _name),
    "int8_use_native_calibration_table": ("trt_int8_use_native_calibration_table", _flag),
} | {
    key: (key, read)
    for key, read in {
        "trt_max_partition_iterations": _integer,
        "trt_min_subgraph_size": _integer,
        "trt_dla_enable": _flag,
        "trt_dla_core": _integer,
        ENGINE_CACHE: _flag,
        ENGINE_CACHE_PATH: _text,
        "trt_engine_cache_prefix": _name,
        "trt_dump_subgraphs": _flag,
        "trt_force_sequential_engine_build": _flag,
        "trt_context_memory_sharing_enable": _flag,
        "trt_layer_norm_fp32_fallback": _flag,
        TIMING_CACHE: _flag,
        TIMING_CACHE_PATH: _text,
        "trt_force_timing_cache": _flag,
        "trt_detailed_build_log": _flag,
        "trt_build_heuristics_enable": _flag,
        "trt_sparsity_enable": _flag,
        "trt_builder_optimization_level": _between(0, 5),
        "trt_auxiliary_streams": _between(-1, MAX_INTEGER),
        "trt_tactic_sources": _text,
        PROFILE_MIN: _shapes,
        PROFILE_MAX: _shapes,
        PROFILE_OPT: _shapes,
        CUDA_GRAPH: _flag,
        "trt_dump_ep_context_model": _flag,
        "trt_ep_context_file_path": _text,
        "trt_ep_context_embed_mode": _between(0, 1),
    }.items()
}
"""Triton's key: the engine's option, and what reads the value."""

_NOT_FROM_A_CONFIG = {
    ENGINE_CACHE_PATH: "engines are kept below --tensorrt-cache-directory",
    TIMING_CACHE_PATH: "timings are kept below --tensorrt-cache-directory",
    "trt_dump_subgraphs": "it writes files into the server's working folder",
    "trt_dump_ep_context_model": "it writes files that the server does not look after",
    "trt_ep_context_file_path": "it names a file, and an engine from a file is code",
    "trt_ep_context_embed_mode": "it goes with trt_dump_ep_context_model",
}
"""Options that read or write files of the config's choice: a config may come from a caller."""


def tensorrt_options(parameters: Mapping[str, str], *, gpu: int) -> dict[str, str]:
    """The TensorRT provider's options from the parameters of the `tensorrt` accelerator.

    As Triton does, an empty value is as good as none. Which of them name files that the server does not let
    a config choose is `file_notes`' to say and `session_options`' to leave out.

    Raises:
        InvalidArgumentError: a key or the precision is unknown, or a value is not of its key's type.
        UnsupportedError: a key would load code from the config's word.
    """
    options = {"device_id": str(gpu)}
    for key, value in parameters.items():
        if key == "precision_mode":
            options |= _PRECISION_OPTIONS[_precision(value)]
        elif key == "trt_extra_plugin_lib_paths":
            raise UnsupportedError(
                f"'{key}' loads libraries named by a config ('{value}') and is not offered"
            )
        elif key not in _KEYS:
            raise InvalidArgumentError(
                f"unknown parameter '{key}' is provided for TensorRT Execution Accelerator"
            )
        elif value:
            option, read = _KEYS[key]
            options[option] = read(key, value)
    return options


def read_precision(options: Mapping[str, str]) -> Precision:
    """The lowest precision that the options allow."""
    for precision in (Precision.INT8, Precision.BF16, Precision.FP16):
        if _PRECISION_OPTIONS[precision].items() <= options.items():
            return precision
    return Precision.FP32


def is_off(options: Mapping[str, str], switch: str) -> bool:
    """Whether the config says no to a cache that is on by default."""
    return options.get(switch, _TRUE) == _FALSE


def without_files(options: Mapping[str, str]) -> dict[str, str]:
    """The options without those that read or write files of the config's choice."""
    return {key: value for key, value in options.items() if key not in _NOT_FROM_A_CONFIG}


def file_notes(options: Mapping[str, str]) -> tuple[str, ...]:
    """One sentence for each option that the server does not take from a config."""
    return tuple(
        f"the TensorRT parameter {key}={options[key]} is not honoured: {why}"
        for key, why in _NOT_FROM_A_CONFIG.items()
        if options.get(key, _FALSE) != _FALSE
    )


def cache_options(engines: str | None, timings: str | None) -> dict[str, str]:
    """The options of both caches: the folder of each, or None to have it off."""
    options = {ENGINE_CACHE: _TRUE if engines else _FALSE, TIMING_CACHE: _TRUE if timings else _FALSE}
    if engines:
        options[ENGINE_CACHE_PATH] = engines
    if timings:
        options[TIMING_CACHE_PATH] = timings
    return options


def _precision(value: str) -> Precision:
    try:
        return Precision(value.upper())
    except ValueError:
        raise InvalidArgumentError(
            f"unsupported precision mode '{value}' is requested, expected one of "
            f"{', '.join(each.value for each in Precision)}"
        ) from None


def _wrong(key: str, value: str, expected: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"TensorRT parameter '{key}' is '{value[:200]}', expected {expected}")
