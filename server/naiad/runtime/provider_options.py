"""Options of each execution provider from a model config's accelerator parameters. Pure tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PRECISIONS: dict[str, dict[str, str]] = {
    "FP32": {},
    "FP16": {"trt_fp16_enable": "1"},
    "BF16": {"trt_bf16_enable": "1"},
    "INT8": {"trt_int8_enable": "1"},
}

_TENSORRT_RENAMED = {
    "max_workspace_size_bytes": "trt_max_workspace_size",
    "int8_calibration_table_name": "trt_int8_calibration_table_name",
    "int8_use_native_calibration_table": "trt_int8_use_native_calibration_table",
}

_TENSORRT_AS_IS = frozenset(
    f"trt_{name}"
    for name in (
        "max_partition_iterations",
        "min_subgraph_size",
        "dla_enable",
        "dla_core",
        "engine_cache_enable",
        "engine_cache_path",
        "engine_cache_prefix",
        "dump_subgraphs",
        "force_sequential_engine_build",
        "context_memory_sharing_enable",
        "layer_norm_fp32_fallback",
        "timing_cache_enable",
        "timing_cache_path",
        "force_timing_cache",
        "detailed_build_log",
        "build_heuristics_enable",
        "sparsity_enable",
        "builder_optimization_level",
        "auxiliary_streams",
        "tactic_sources",
        "profile_min_shapes",
        "profile_max_shapes",
        "profile_opt_shapes",
        "cuda_graph_enable",
        "dump_ep_context_model",
        "ep_context_file_path",
        "ep_context_embed_mode",
    )
)

_CUDA_DEFAULTS = {
    # The engine's own default tries every algorithm for each new shape: seconds instead of milliseconds.
    "cudnn_conv_algo_search": "HEURISTIC",
    # Shapes are warmed before traffic comes, so the arena settles at their need instead of doubling past it.
    "arena_extend_strategy": "kSameAsRequested",
}

# Addresses inside the process: a number from a config file cannot be one.
_CUDA_ADDRESSES = frozenset(
    {
        "user_compute_stream",
        "has_user_compute_stream",
        "gpu_external_alloc",
        "gpu_external_free",
        "gpu_external_empty_cache",
    }
)

# Older configs set these in `parameters`, by number.
_CUDA_PARAMETER_VALUES: dict[str, dict[str, str]] = {
    "cudnn_conv_algo_search": {"0": "EXHAUSTIVE", "1": "HEURISTIC", "2": "DEFAULT"},
    "arena_extend_strategy": {"0": "kNextPowerOfTwo", "1": "kSameAsRequested"},
    "do_copy_in_default_stream": {"0": "0", "1": "1", "false": "0", "true": "1"},
}
_CUDA_MEMORY_LIMIT = "gpu_mem_limit"


def tensorrt_options(parameters: Mapping[str, str], *, gpu: int) -> dict[str, str]:
    """The TensorRT provider's options from the parameters of the `tensorrt` accelerator.

    Raises:
        InvalidArgumentError: a key or the precision is unknown.
        UnsupportedError: a key would load code from the config's word.
    """
    options = {"device_id": str(gpu)}
    for key, value in parameters.items():
        if key == "precision_mode":
            options |= _precision(value)
        elif key == "trt_extra_plugin_lib_paths":
            raise UnsupportedError(
                f"'{key}' loads libraries named by a config ('{value}') and is not offered"
            )
        elif key in _TENSORRT_AS_IS:
            options[key] = value
        elif key in _TENSORRT_RENAMED:
            options[_TENSORRT_RENAMED[key]] = value
        else:
            raise InvalidArgumentError(
                f"unknown parameter '{key}' is provided for TensorRT Execution Accelerator"
            )
    return options


def cuda_options(
    accelerator: Mapping[str, str], parameters: Mapping[str, str], *, gpu: int
) -> dict[str, str]:
    """The CUDA provider's options: our defaults, then the deprecated parameters, then the accelerator's.

    Args:
        accelerator: parameters of the `cuda` accelerator, handed on as they are; empty if there is none.
        parameters: the model config's own parameters, of which the deprecated CUDA ones are read.
        gpu: the device; a `device_id` in the accelerator does not override the instance group.

    Raises:
        InvalidArgumentError: a deprecated parameter's value is out of its range.
        UnsupportedError: a key needs an address inside the process.
    """
    if addresses := sorted(_CUDA_ADDRESSES & accelerator.keys()):
        raise UnsupportedError(
            f"CUDA parameter '{addresses[0]}' needs an address inside the server; no config can know one"
        )
    return _CUDA_DEFAULTS | _deprecated_cuda(parameters) | dict(accelerator) | {"device_id": str(gpu)}


def _precision(value: str) -> dict[str, str]:
    try:
        return _PRECISIONS[value.upper()]
    except KeyError:
        raise InvalidArgumentError(
            f"unsupported precision mode '{value}' is requested, expected one of {', '.join(_PRECISIONS)}"
        ) from None


def _deprecated_cuda(parameters: Mapping[str, str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for key, values in _CUDA_PARAMETER_VALUES.items():
        if key not in parameters:
            continue
        value = parameters[key].lower()
        if value not in values:
            raise InvalidArgumentError(
                f"parameter '{key}' is '{parameters[key]}', expected one of {', '.join(values)}"
            )
        options[key] = values[value]
    if (limit := parameters.get(_CUDA_MEMORY_LIMIT)) is not None:
        if not (limit.isascii() and limit.isdigit() and int(limit) > 0):
            raise InvalidArgumentError(
                f"parameter '{_CUDA_MEMORY_LIMIT}' is '{limit}', expected a positive number of bytes"
            )
        options[_CUDA_MEMORY_LIMIT] = limit
    return options
