"""Options of the CUDA provider from a model config's accelerator parameters. Pure tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

CUDA_GRAPH_OPTION = "enable_cuda_graph"
"""Set where a session is opened, which knows whether its model can be captured; see `runtime/cuda`."""

_CUDA_DEFAULTS = {
    # The engine's own default tries every algorithm for each new shape: seconds instead of milliseconds.
    "cudnn_conv_algo_search": "HEURISTIC",
    # What a shape's best algorithm needs: without it the search is kept to 32 MB.
    "cudnn_conv_use_max_workspace": "1",
    # Shapes are warmed before traffic comes, so the arena settles at their need instead of doubling past it.
    "arena_extend_strategy": "kSameAsRequested",
    # A second stream for the engine's own copies has raced with the first; ours go by our streams.
    "do_copy_in_default_stream": "1",
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


def cuda_options(
    accelerator: Mapping[str, str], parameters: Mapping[str, str], *, gpu: int
) -> dict[str, str]:
    """The CUDA provider's options: our defaults, then the deprecated parameters, then the accelerator's.

    Args:
        accelerator: parameters of the `cuda` accelerator, handed on as they are, save `enable_cuda_graph`,
            which means `naiad.cuda_graphs`; empty if there is none.
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
    named = {key: value for key, value in accelerator.items() if key != CUDA_GRAPH_OPTION}
    return _CUDA_DEFAULTS | _deprecated_cuda(parameters) | named | {"device_id": str(gpu)}


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
