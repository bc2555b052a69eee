"""The `naiad.…` parameters that the runtime reads, beside those of a vision model. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from naiad.config.model_config import ModelConfig

BATCH_BUCKETS = "naiad.batch_buckets"
GPU_LANES = "naiad.gpu_lanes"
CUDA_GRAPHS = "naiad.cuda_graphs"
CUDA_SHAPES = "naiad.cuda_shapes"
TENSORRT_SHAPES = "naiad.tensorrt_shapes"
TENSORRT_BUILD = "naiad.tensorrt_build"
EXPERIMENT = "naiad.experiment"
ALLOW_INTERFACE_CHANGE = "naiad.allow_interface_change"
ALLOW_NOT_FINITE = "naiad.allow_not_finite"

RUNTIME_KEYS = (
    BATCH_BUCKETS,
    GPU_LANES,
    CUDA_GRAPHS,
    CUDA_SHAPES,
    TENSORRT_SHAPES,
    TENSORRT_BUILD,
    EXPERIMENT,
    ALLOW_INTERFACE_CHANGE,
    ALLOW_NOT_FINITE,
)
"""A model needs no `naiad.task` for them."""

SWITCHES = (ALLOW_INTERFACE_CHANGE, ALLOW_NOT_FINITE)
"""Those that are true or false, false where they are not given."""

_WORDS = {"true": True, "1": True, "false": False, "0": False}


def check_switches(config: ModelConfig) -> None:
    """Raise InvalidArgumentError for a switch that is neither true nor false."""
    for key in SWITCHES:
        is_switched_on(config, key)


def is_switched_on(config: ModelConfig, key: str) -> bool:
    """Whether one of the `SWITCHES` is true in a config.

    Raises:
        InvalidArgumentError: it is neither true nor false.
    """
    value = config.parameters.get(key, "false").strip().lower()
    if value not in _WORDS:
        raise InvalidArgumentError(
            f"parameter '{key}' of model '{config.name}' is '{config.parameters[key]}', "
            "expected true or false"
        )
    return _WORDS[value]
