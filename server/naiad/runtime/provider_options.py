"""Options of the CUDA provider from a model config's accelerator parameters. Pure tables."""

from __future__ import annotations

import re
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

_SWITCH = re.compile(r"[01]|[Tt]rue|[Ff]alse")
_NUMBER = re.compile(r"[0-9]{1,19}")
_WRITTEN = {_SWITCH: "0, 1, true or false", _NUMBER: "a whole number, 0 or above"}
_CHOICES = {
    "cudnn_conv_algo_search": ("EXHAUSTIVE", "HEURISTIC", "DEFAULT"),
    "arena_extend_strategy": ("kNextPowerOfTwo", "kSameAsRequested"),
}
_FORMS = {
    "gpu_mem_limit": _NUMBER,
    "tunable_op_max_tuning_duration_ms": _NUMBER,
    "do_copy_in_default_stream": _SWITCH,
    "cudnn_conv_use_max_workspace": _SWITCH,
    "cudnn_conv1d_pad_to_nc1d": _SWITCH,
    "tunable_op_enable": _SWITCH,
    "tunable_op_tuning_enable": _SWITCH,
    "enable_skip_layer_norm_strict_mode": _SWITCH,
    "prefer_nhwc": _SWITCH,
    "use_ep_level_unified_stream": _SWITCH,
    "use_tf32": _SWITCH,
    "fuse_conv_bias": _SWITCH,
}
"""How the engine wants these written. It says so on a machine with a GPU only, and not of which model."""

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
            which means `naiad.cuda_graphs`; empty if there is none. Keys that are not known here are the
            engine's to judge: its releases bring new ones.
        parameters: the model config's own parameters, of which the deprecated CUDA ones are read.
        gpu: the device; a `device_id` in the accelerator does not override the instance group.

    Raises:
        InvalidArgumentError: a value that is not one of its key's.
        UnsupportedError: a key needs an address inside the process.
    """
    if addresses := sorted(_CUDA_ADDRESSES & accelerator.keys()):
        raise UnsupportedError(
            f"CUDA parameter '{addresses[0]}' needs an address inside the server; no config can know one"
        )
    for key, value in accelerator.items():
        _check(key, value)
    named = {key: value for key, value in accelerator.items() if key != CUDA_GRAPH_OPTION}
    return _CUDA_DEFAULTS | _deprecated_cuda(parameters) | named | {"device_id": str(gpu)}


def _check(key: str, value: str) -> None:
    choices, form = _CHOICES.get(key), _FORMS.get(key)
    if choices is not None and value not in choices:
        raise _wrong(key, value, f"one of {', '.join(choices)}")
    if form is not None and not form.fullmatch(value):
        raise _wrong(key, value, _WRITTEN[form])


def _wrong(key: str, value: str, expected: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"CUDA parameter '{key}' is '{value[:200]}', expected {expected}")


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
