"""What a config takes over from the graph when it does not list its own inputs and outputs. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from naiad.config.model_config import TensorConfig
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import WILDCARD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class Autofill:
    """What to put into the config; None for a list that the config already has."""

    max_batch_size: int
    add_dynamic_batching: bool
    inputs: tuple[TensorConfig, ...] | None
    outputs: tuple[TensorConfig, ...] | None
    warnings: tuple[str, ...] = ()


def decide_autofill(
    config: ModelConfig,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    default_max_batch_size: int,
) -> Autofill | None:
    """What the graph adds to the config, or None if the config lists its inputs and outputs itself.

    Args:
        config: as read.
        inputs: the graph's required inputs, full shapes.
        outputs: the graph's outputs, full shapes.
        default_max_batch_size: for a graph that can be batched and a config that says nothing (or 0).

    Raises:
        InvalidArgumentError: the config wants batches and the graph's shapes do not allow them.
    """
    if config.inputs and config.outputs:
        return None
    max_batch_size = config.max_batch_size
    if all(_is_batchable(spec) for spec in (*inputs, *outputs)):
        max_batch_size = max_batch_size or max(default_max_batch_size, 0)
    elif max_batch_size:
        raise InvalidArgumentError(
            f"autofill failed for model '{config.name}': model does not support batching while non-zero "
            "max_batch_size is specified"
        )
    batchable = max_batch_size > 0
    sequences = config.sequence_batching
    if sequences is not None:  # control tensors and states are the server's own, no client sends or gets them
        inputs = _without(inputs, sequences.inputs)
        outputs = _without(outputs, sequences.outputs)
    made = {name for each in config.batch_inputs for name in each.target_names}
    inputs = [spec for spec in inputs if spec.name not in made]
    guessed = [spec.name for spec in (*inputs, *outputs) if spec.shape is None]
    return Autofill(
        max_batch_size=max_batch_size,
        add_dynamic_batching=max_batch_size > 1 and config.dynamic_batching is None and sequences is None,
        inputs=None if config.inputs else tuple(_describe(spec, batched=batchable) for spec in inputs),
        outputs=None if config.outputs else tuple(_describe(spec, batched=batchable) for spec in outputs),
        warnings=tuple(
            f"dims of '{name}' are a guess: the graph does not say its rank, write them into config.pbtxt"
            for name in guessed
        ),
    )


def _is_batchable(spec: TensorSpec) -> bool:
    return bool(spec.shape) and spec.shape is not None and spec.shape[0] == WILDCARD


def _without(specs: Sequence[TensorSpec], known: Sequence[TensorConfig]) -> list[TensorSpec]:
    names = {tensor.name for tensor in known}
    return [spec for spec in specs if spec.name not in names]


def _describe(spec: TensorSpec, *, batched: bool) -> TensorConfig:
    """The tensor's config: dims without the batch dimension; a scalar takes dims [1], as Triton needs one."""
    shape = (WILDCARD,) if spec.shape is None else spec.shape
    dims = shape[1:] if batched else shape
    reshape = () if batched and not dims else None
    return TensorConfig(spec.name, spec.datatype, dims or (1,), reshape)
