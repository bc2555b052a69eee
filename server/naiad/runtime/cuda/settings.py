"""What a config says about its instances on a GPU: lanes and CUDA graphs. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from naiad.config.runtime_keys import BATCH_BUCKETS, CUDA_GRAPHS, GPU_LANES
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.runtime.buckets import named_buckets
from naiad.runtime.provider_options import CUDA_GRAPH_OPTION
from naiad.runtime.session_settings import read_session_settings
from naiad.runtime.shapes import declared_shapes

if TYPE_CHECKING:
    from naiad.config.model_config import ModelConfig

MAX_LANES = 4
"""Two overlap copies with runs; a third waits for the same stream, and each holds a batch."""

DEFAULT_LANES = 2

_GRAPH_FLAGS = {"0": "off", "false": "off", "1": "on", "true": "on"}


class GraphMode(Enum):
    """Whether runs become CUDA graphs: `AUTO` where they can, `ON` also says why where they cannot."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class CudaSettings:
    """How an instance on a GPU runs.

    `lanes` share its session, `graphs` is the mode after all that the config alone rules out; `note` says
    what that was, if graphs were asked for.
    """

    lanes: int = DEFAULT_LANES
    graphs: GraphMode = GraphMode.AUTO
    note: str = ""


def read_cuda_settings(config: ModelConfig) -> CudaSettings:
    """The settings of a config, complete or not.

    Raises:
        InvalidArgumentError: a value is not one of its key's.
    """
    mode, obstacle = _graph_mode(config), _obstacle(config)
    lanes = 1 if config.sequence_batching is not None or _is_rate_limited(config) else _lanes(config)
    if mode is GraphMode.OFF or obstacle is None:
        return CudaSettings(lanes, mode)
    note = f"no CUDA graphs: {obstacle}" if mode is GraphMode.ON else ""
    return CudaSettings(lanes, GraphMode.OFF, note)


def check_cuda_settings(config: ModelConfig) -> None:
    """Refuse wrong values of the keys that only a GPU reads, on whatever machine.

    Raises:
        InvalidArgumentError: names the key, the value and what is expected.
    """
    read_cuda_settings(config)
    named_buckets(config)
    declared_shapes(config)


def list_unused(config: ModelConfig) -> tuple[str, ...]:
    """One sentence for each key that makes no difference because the instances run on the CPU."""
    named = (key for key in (BATCH_BUCKETS, GPU_LANES, CUDA_GRAPHS) if key in config.parameters)
    return tuple(f"the parameter '{key}' has no effect: no instance runs on a GPU" for key in named)


def _lanes(config: ModelConfig) -> int:
    value = config.parameters.get(GPU_LANES, str(DEFAULT_LANES))
    if value not in map(str, range(1, MAX_LANES + 1)):
        raise InvalidArgumentError(
            f"parameter '{GPU_LANES}' is '{value}', expected a whole number from 1 to {MAX_LANES}"
        )
    return int(value)


def _graph_mode(config: ModelConfig) -> GraphMode:
    value = config.parameters.get(CUDA_GRAPHS)
    if value is None:
        value = _accelerator_mode(config)
    try:
        return GraphMode(value)
    except ValueError:
        modes = ", ".join(mode.value for mode in GraphMode)
        raise InvalidArgumentError(
            f"parameter '{CUDA_GRAPHS}' is '{value}', expected one of {modes}"
        ) from None


def _accelerator_mode(config: ModelConfig) -> str:
    """The same by the engine's own word in the `cuda` accelerator."""
    for accelerator in config.gpu_accelerators:
        value = accelerator.parameters.get(CUDA_GRAPH_OPTION)
        if accelerator.name == "cuda" and value is not None:
            if value.lower() not in _GRAPH_FLAGS:
                raise InvalidArgumentError(
                    f"CUDA parameter '{CUDA_GRAPH_OPTION}' is '{value}', expected 0 or 1"
                )
            return _GRAPH_FLAGS[value.lower()]
    return GraphMode.AUTO.value


def _obstacle(config: ModelConfig) -> str | None:
    """What the config alone says against graphs."""
    if config.sequence_batching is not None:
        return "the tensors of a sequence model have no fixed place in memory"
    if config.batch_inputs or any(tensor.ragged for tensor in config.inputs):
        return "a ragged batch has no fixed shape"
    if any(tensor.datatype is DataType.BYTES for tensor in (*config.inputs, *config.outputs)):
        return "text cannot lie in the GPU's memory"
    if any(tensor.optional for tensor in config.inputs):
        return "an optional input may be missing, and a graph has all of its inputs"
    if "gpu" in (read_session_settings(config).arena_shrinkage or ""):
        return "memory.enable_memory_arena_shrinkage would free the memory that a graph uses"
    return None


def _is_rate_limited(config: ModelConfig) -> bool:
    """Whether what an instance needs must be counted once for each of its runs."""
    return any(group.rate_limit is not None for group in config.instance_groups)
