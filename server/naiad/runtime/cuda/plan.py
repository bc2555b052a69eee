"""Which tensors of a model can lie in fixed buffers on a GPU, and of what shape; or why they cannot. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from naiad.config.runtime_keys import CUDA_SHAPES
from naiad.core.datatypes import DataType
from naiad.core.tensors import WILDCARD
from naiad.runtime.buckets import Buckets, can_pad
from naiad.runtime.shapes import declared_shapes, expected_dims

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import TensorSpec


MAX_LANE_BYTES = 2 * 2**30
"""Of one lane's buffers; pinned memory is taken from the host's for as long as the model is loaded."""


@dataclass(frozen=True, slots=True)
class BoundTensor:
    """A tensor with a place of its own.

    `row` is its shape without the batch dimension. `batched` says that the graph's shape starts with one.
    """

    name: str
    datatype: DataType
    row: tuple[int, ...]
    batched: bool

    @property
    def row_bytes(self) -> int:
        """Bytes of one batch item."""
        return math.prod(self.row) * self.datatype.itemsize

    def shape(self, rows: int) -> tuple[int, ...]:
        """The graph's shape for a batch of `rows`."""
        return (rows, *self.row) if self.batched else self.row


@dataclass(frozen=True, slots=True)
class BindingPlan:
    """What is bound: for each of `sizes` once.

    `free_outputs` are those whose shape only a run can tell: the engine allocates them each time.
    """

    inputs: tuple[BoundTensor, ...]
    outputs: tuple[BoundTensor, ...]
    free_outputs: tuple[str, ...]
    sizes: tuple[int, ...]
    batched: bool

    @property
    def largest(self) -> int:
        """The rows that the buffers hold."""
        return self.sizes[-1]

    @property
    def bytes(self) -> int:
        """What one lane takes of the GPU's memory, and as much of the host's."""
        return self.largest * sum(tensor.row_bytes for tensor in (*self.inputs, *self.outputs))


def plan_binding(
    config: ModelConfig,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    buckets: Buckets,
) -> BindingPlan | str:
    """The plan of a model, or a sentence on why its tensors are copied by the engine in each run.

    Args:
        config: complete.
        inputs: the graph's.
        outputs: the graph's.
        buckets: the batch sizes that come; empty for a model without batches.

    Raises:
        InvalidArgumentError: `naiad.cuda_shapes` is wrong.
    """
    batched = config.max_batch_size > 0
    if obstacle := next(_obstacles(config, inputs, outputs), None):
        return obstacle
    wanted = {output.name for output in config.outputs}
    served = [spec for spec in outputs if spec.name in wanted]
    bound = {spec.name: _bound_output(spec, batched=batched) for spec in served}
    plan = BindingPlan(
        inputs=tuple(_bound_inputs(config, inputs)),
        outputs=tuple(tensor for tensor in bound.values() if tensor is not None),
        free_outputs=tuple(name for name, tensor in bound.items() if tensor is None),
        sizes=buckets.sizes or (1,),
        batched=batched,
    )
    if plan.bytes > MAX_LANE_BYTES:
        return f"the buffers of a lane would take {plan.bytes} bytes, the limit is {MAX_LANE_BYTES}"
    return plan


def _obstacles(
    config: ModelConfig, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> Iterator[str]:
    if config.sequence_batching is not None:
        yield "its requests belong to sequences"
    if config.max_batch_size > 0 and not can_pad(config):
        yield "its inputs are ragged"
    if any(tensor.optional for tensor in config.inputs):
        yield "some of its inputs are optional"
    yield from _input_obstacles(config, inputs)
    for spec in outputs:
        if spec.datatype is DataType.BYTES:
            yield f"output '{spec.name}' is text"
        if spec.datatype is DataType.BF16 and _bound_output(spec, batched=config.max_batch_size > 0) is None:
            yield f"output '{spec.name}' is BF16 of a shape that only a run can tell"


def _input_obstacles(config: ModelConfig, inputs: Sequence[TensorSpec]) -> Iterator[str]:
    shapes = declared_shapes(config)
    specs = {spec.name: spec for spec in inputs}
    for tensor in config.inputs:
        row = _row_of(specs.get(tensor.name), config, expected_dims(config, tensor, shapes))
        if tensor.datatype is DataType.BYTES:
            yield f"input '{tensor.name}' is text"
        if WILDCARD in row:
            yield f"input '{tensor.name}' has any size {list(row)}: {CUDA_SHAPES} can name the one that comes"
        if 0 in row:
            yield f"input '{tensor.name}' is empty"


def _row_of(spec: TensorSpec | None, config: ModelConfig, dims: tuple[int, ...]) -> tuple[int, ...]:
    """The dims with what the graph knows better than the config."""
    if spec is None or spec.shape is None:
        return dims
    row = spec.shape[1:] if config.max_batch_size > 0 else spec.shape
    if len(row) != len(dims):
        return dims
    return tuple(own if dim == WILDCARD else dim for dim, own in zip(dims, row, strict=True))


def _bound_inputs(config: ModelConfig, inputs: Sequence[TensorSpec]) -> Iterator[BoundTensor]:
    shapes = declared_shapes(config)
    specs = {spec.name: spec for spec in inputs}
    for tensor in config.inputs:
        row = _row_of(specs.get(tensor.name), config, expected_dims(config, tensor, shapes))
        yield BoundTensor(tensor.name, tensor.datatype, row, config.max_batch_size > 0)


def _bound_output(spec: TensorSpec, *, batched: bool) -> BoundTensor | None:
    """The output's place, None if its shape is not known before a run."""
    if spec.shape is None or (batched and spec.shape[:1] != (WILDCARD,)):
        return None
    row = spec.shape[1:] if batched else spec.shape
    if any(dim < 1 for dim in row):
        return None
    return BoundTensor(spec.name, spec.datatype, row, batched)
