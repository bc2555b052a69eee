"""Placing requests' inputs into one batch and taking its outputs apart again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from naiad.core.errors import InternalError
from naiad.core.tensors import WILDCARD

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.core.tensors import Array, InferRequest


class BatchLayout:
    """How the tensors of one model merge and split, from its config. Immutable, shared by threads."""

    def __init__(self, config: ModelConfig) -> None:
        self.batched = config.max_batch_size > 0
        self.max_batch_size = config.max_batch_size
        self.output_names = tuple(sorted(output.name for output in config.outputs))
        self._all_inputs_required = not any(spec.optional for spec in config.inputs)
        inputs = (*config.inputs, *(config.sequence_batching.inputs if config.sequence_batching else ()))
        self._ragged_inputs = tuple(spec.name for spec in inputs if WILDCARD in spec.dims)
        self._input_reshape = {spec.name: spec.reshape for spec in config.inputs if spec.reshape is not None}
        self._output_reshape = {spec.name: spec for spec in config.outputs if spec.reshape is not None}

    def shape_key(self, request: InferRequest) -> Hashable:
        """Two requests share a batch only if these are equal: same inputs present, same variable shapes."""
        if not self._ragged_inputs and self._all_inputs_required:
            return None
        inputs = request.inputs
        shapes = tuple(inputs[name].shape[1:] for name in self._ragged_inputs if name in inputs)
        return shapes if self._all_inputs_required else (shapes, tuple(sorted(inputs)))

    def graph_input(self, name: str, array: Array) -> Array:
        """The array in the shape that the graph wants (the config's `reshape`)."""
        reshape = self._input_reshape.get(name)
        if reshape is None:
            return array
        return array.reshape((array.shape[0], *reshape) if self.batched else reshape)

    def client_output(self, name: str, array: Array) -> Array:
        """The array in the shape that the config promises to callers."""
        if array.ndim == 0:
            return array.reshape(1)  # a scalar of the graph is dims [1] in the protocol
        spec = self._output_reshape.get(name)
        return array if spec is None else array.reshape(self._client_shape(spec, array))

    def _client_shape(self, spec: TensorConfig, array: Array) -> tuple[int, ...]:
        return (array.shape[0], *spec.dims) if self.batched else spec.dims

    def wanted(self, requests: Sequence[InferRequest]) -> tuple[str, ...]:
        """The outputs that at least one of the requests asked for, sorted."""
        names: set[str] = set()
        for request in requests:
            if request.outputs is None:
                return self.output_names
            names.update(request.outputs)
        return tuple(sorted(names))


class BatchBuffer:
    """One instance's input memory, reused from batch to batch so that its pages stay warm.

    It is used by the instance's thread alone. It grows to the largest batch that came, and is replaced when
    requests of another shape come.
    """

    def __init__(self, layout: BatchLayout) -> None:
        self._layout = layout
        self._arrays: dict[str, Array] = {}

    def place(self, requests: Sequence[InferRequest]) -> dict[str, Array]:
        """The batch's inputs: a lone request's own arrays, else all requests' rows one after the other."""
        layout = self._layout
        if len(requests) == 1:
            return {name: layout.graph_input(name, array) for name, array in requests[0].inputs.items()}
        total = sum(request.batch_size for request in requests)
        return {
            name: layout.graph_input(
                name, self._join(name, [request.inputs[name] for request in requests], total)
            )
            for name in requests[0].inputs
        }

    def _join(self, name: str, rows: list[Array], total: int) -> Array:
        first = rows[0]
        if first.dtype.hasobject:
            return np.concatenate(rows)  # a buffer would keep the texts alive
        buffer = self._arrays.get(name)
        if buffer is None or len(buffer) < total or not _same_rows(buffer, first):
            buffer = self._arrays[name] = np.empty((total, *first.shape[1:]), dtype=first.dtype)
        batch = buffer[:total]
        np.concatenate(rows, out=batch)
        return batch


def _same_rows(left: Array, right: Array) -> bool:
    return left.shape[1:] == right.shape[1:] and left.dtype == right.dtype


def split(
    layout: BatchLayout, outputs: dict[str, Array], requests: Sequence[InferRequest]
) -> list[dict[str, Array]]:
    """Give each request its rows of the outputs it asked for, as views.

    Raises:
        InternalError: an output's first dimension is not the batch's size, so rows cannot be told apart.
    """
    client = {name: layout.client_output(name, array) for name, array in outputs.items()}
    if layout.batched:
        _check_rows(client, sum(request.batch_size for request in requests))
    if len(requests) == 1:
        return [_chosen(client, requests[0])]
    answers = []
    start = 0
    for request in requests:
        stop = start + request.batch_size
        answers.append({name: array[start:stop] for name, array in _chosen(client, request).items()})
        start = stop
    return answers


def _check_rows(outputs: dict[str, Array], total: int) -> None:
    for name, array in outputs.items():
        if array.shape[0] != total:
            raise InternalError(
                f"output '{name}' has shape {list(array.shape)} for a batch of {total}: "
                "its first dimension must be the batch's size"
            )


def _chosen(outputs: dict[str, Array], request: InferRequest) -> dict[str, Array]:
    if request.outputs is None:
        return outputs
    return {name: outputs[name] for name in sorted(request.outputs)}
