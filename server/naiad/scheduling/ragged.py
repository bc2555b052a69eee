"""Ragged batches of one model: which inputs lie end to end, what describes them, how outputs are cut."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from naiad.core.errors import InternalError
from naiad.core.tensors import WILDCARD
from naiad.runtime.ragged import make_batch_inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.core.tensors import Array, InferRequest


class RaggedLayout:
    """What the config says about ragged batches. Immutable, shared by threads.

    `inputs` are the names of the ragged inputs, `outputs` those of the outputs that `scatter` cuts.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.inputs = frozenset(spec.name for spec in config.inputs if spec.ragged)
        self.outputs = frozenset(name for each in config.batch_outputs for name in each.target_names)
        self._batched = config.max_batch_size > 0
        self._batch_inputs = config.batch_inputs
        self._source_of = {name: each.source for each in config.batch_outputs for name in each.target_names}
        self._dims = {spec.name: _graph_dims(spec) for spec in (*config.inputs, *config.outputs)}
        self._reshaped = frozenset(spec.name for spec in config.inputs if spec.reshape is not None)
        sources = {each.source for each in config.batch_inputs}
        self._sources = tuple(sorted(sources))

    def __bool__(self) -> bool:
        """Whether anything of the model is ragged."""
        return bool(self.inputs or self.outputs or self._batch_inputs)

    def input_bytes(self, request: InferRequest) -> int:
        """The bytes of a request's ragged inputs; of texts those of the references to them."""
        return sum(array.nbytes for name, array in request.inputs.items() if name in self.inputs)

    def batch_inputs(self, requests: Sequence[InferRequest]) -> dict[str, Array]:
        """The inputs that no caller sends, for the batch of these requests; none for most models."""
        if not self._batch_inputs:
            return {}
        shapes = [{name: self._shape(request, name) for name in self._sources} for request in requests]
        return make_batch_inputs(self._batch_inputs, shapes)

    def scatter(self, name: str, array: Array, requests: Sequence[InferRequest]) -> list[Array]:
        """Each request's elements of an output, as views in the shape that the graph would give it alone.

        Raises:
            InternalError: the output has another number of elements than the requests' shapes make.
        """
        shapes = [self._output_shape(name, request) for request in requests]
        total = sum(math.prod(shape) for shape in shapes)
        if array.size != total:
            raise InternalError(
                f"output '{name}' has {array.size} elements, but the shapes of '{self._source_of[name]}' "
                f"in the batch of {len(requests)} requests make {total}"
            )
        flat, pieces, start = array.reshape(-1), [], 0
        for shape in shapes:
            stop = start + math.prod(shape)
            pieces.append(flat[start:stop].reshape(shape))
            start = stop
        return pieces

    def _shape(self, request: InferRequest, name: str) -> tuple[int, ...]:
        """The full shape of a request's input after the config's `reshape`."""
        array: Array = request.inputs[name]
        if name in self._reshaped:
            dims = self._dims[name]
            array = array.reshape((array.shape[0], *dims) if self._batched else dims)
        return array.shape

    def _output_shape(self, name: str, request: InferRequest) -> tuple[int, ...]:
        source = self._shape(request, self._source_of[name])
        dims = (WILDCARD, *self._dims[name]) if self._batched else self._dims[name]
        return tuple(source[axis] if dim == WILDCARD else dim for axis, dim in enumerate(dims))


def _graph_dims(tensor: TensorConfig) -> tuple[int, ...]:
    return tensor.dims if tensor.reshape is None else tensor.reshape
