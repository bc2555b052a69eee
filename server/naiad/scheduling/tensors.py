"""Placing requests' inputs into one batch and taking its outputs apart again."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from naiad.core.errors import InternalError
from naiad.core.tensors import WILDCARD
from naiad.scheduling.ragged import RaggedLayout

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.core.tensors import Array, InferRequest
    from naiad.runtime.session import BatchSlots

KEPT_BYTES = 64 * 2**20
"""An input that is larger, and bounded by nothing but its request, has memory of its own, which goes with the
batch: a ragged one, or a lone request's that is read from its source."""


class BatchLayout:
    """How the tensors of one model merge and split, from its config. Immutable, shared by threads."""

    def __init__(self, config: ModelConfig) -> None:
        self.batched = config.max_batch_size > 0
        self.max_batch_size = config.max_batch_size
        self.output_names = tuple(sorted(output.name for output in config.outputs))
        self._all_inputs_required = not any(spec.optional for spec in config.inputs)
        inputs = (*config.inputs, *(config.sequence_batching.inputs if config.sequence_batching else ()))
        self._variable_inputs = tuple(
            spec.name for spec in inputs if WILDCARD in spec.dims and not spec.ragged
        )
        self.ragged = RaggedLayout(config)
        self._input_reshape = {spec.name: spec.reshape for spec in config.inputs if spec.reshape is not None}
        self._output_reshape = {spec.name: spec for spec in config.outputs if spec.reshape is not None}
        # Most models: what a lone request brings is what the graph takes, and what it gives is the answer.
        self.plain_inputs = not (self._input_reshape or self.ragged)
        self.plain_outputs = not (self._output_reshape or self.ragged)

    def shape_key(self, request: InferRequest) -> Hashable:
        """Two requests share a batch only if these are equal: same inputs present, same variable shapes.

        Ragged inputs need not agree.
        """
        if not self._variable_inputs and self._all_inputs_required:
            return None
        inputs = request.inputs
        shapes = tuple(inputs[name].shape[1:] for name in self._variable_inputs if name in inputs)
        return shapes if self._all_inputs_required else (shapes, tuple(sorted(inputs)))

    def graph_input(self, name: str, array: Array) -> Array:
        """The array in the shape that the graph wants: the config's `reshape`, flat for a ragged input."""
        if name in self.ragged.inputs:
            return array.reshape(-1)
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
    requests of another shape come. A ragged or lone input of more than `KEPT_BYTES` may not be kept:
    nothing else bounds how far a single batch, that may never come again, is beyond all others.
    """

    def __init__(self, layout: BatchLayout) -> None:
        self._layout = layout
        self._arrays: dict[str, Array] = {}

    def place(self, requests: Sequence[InferRequest], slots: BatchSlots | None = None) -> dict[str, Array]:
        """The batch's inputs: a lone request's own arrays, else all requests' rows one after the other.

        Of a ragged input all elements lie one after the other. What describes the batch is added. Rows are
        written to the session's own `slots` where it has them. What comes from a source is read from it.

        Raises:
            NaiadError: a source has no values.
        """
        layout = self._layout
        if any(request.sources for request in requests):
            return {
                name: layout.graph_input(name, self._read(name, requests, slots))
                for name in requests[0].inputs
            }
        if len(requests) == 1:
            if layout.plain_inputs:
                return _aligned(requests[0].inputs)
            inputs = _aligned(
                {name: layout.graph_input(name, array) for name, array in requests[0].inputs.items()}
            )
        else:
            inputs = {
                name: layout.graph_input(
                    name, self._join(name, [request.inputs[name] for request in requests], slots)
                )
                for name in requests[0].inputs
            }
        inputs.update(layout.ragged.batch_inputs(requests))
        return inputs

    def _join(self, name: str, rows: list[Array], slots: BatchSlots | None = None) -> Array:
        if name in self._layout.ragged.inputs:
            rows = [array.reshape(-1) for array in rows]
            if sum(array.nbytes for array in rows) > KEPT_BYTES:
                return np.concatenate(rows)
        if rows[0].dtype.hasobject:
            return np.concatenate(rows)  # a buffer would keep the texts alive
        batch = self._memory(name, rows, slots)
        np.concatenate(rows, out=batch)
        return batch

    def _read(self, name: str, requests: Sequence[InferRequest], slots: BatchSlots | None) -> Array:
        """An input of a batch in which some requests have sources."""
        rows = [request.inputs[name] for request in requests]
        sources = [request.sources.get(name) if request.sources else None for request in requests]
        if not any(sources):
            return self._join(name, rows, slots) if len(rows) > 1 else _aligned_one(rows[0])
        batch = self._memory(name, rows, slots)
        start = 0
        for array, source in zip(rows, sources, strict=True):
            part = batch[start : start + len(array)]
            if source is None:
                part[...] = array
            else:
                source.read_into(part)
            start += len(array)
        return batch

    def _memory(self, name: str, rows: Sequence[Array], slots: BatchSlots | None) -> Array:
        """Where the rows of an input of the next batch go."""
        first = rows[0]
        total = sum(map(len, rows))
        if slots is not None:
            slot = slots.slot(name, total, first.shape[1:], first.dtype)
            if slot is not None:
                return slot
        if len(rows) == 1 and first.nbytes > KEPT_BYTES:
            return np.empty(first.shape, first.dtype)
        buffer = self._arrays.get(name)
        if buffer is None or len(buffer) < total or not _same_rows(buffer, first):
            buffer = self._arrays[name] = np.empty((total, *first.shape[1:]), dtype=first.dtype)
        return buffer[:total]


def _aligned(inputs: dict[str, Array]) -> dict[str, Array]:
    """The arrays, those copied that lie in a message where the engine's vector instructions must not read."""
    for array in inputs.values():
        if not array.flags.aligned:
            return {name: _aligned_one(each) for name, each in inputs.items()}
    return inputs


def _aligned_one(array: Array) -> Array:
    return array if array.flags.aligned else array.copy()


def _same_rows(left: Array, right: Array) -> bool:
    return left.shape[1:] == right.shape[1:] and left.dtype == right.dtype


def split(
    layout: BatchLayout, outputs: dict[str, Array], requests: Sequence[InferRequest]
) -> list[dict[str, Array]]:
    """Give each request its rows of the outputs it asked for, as views.

    Raises:
        InternalError: an output's first dimension is not the batch's size, so rows cannot be told apart; or
            the elements of one that is cut by its requests' shapes are more or fewer than those shapes have.
    """
    if len(requests) == 1 and layout.plain_outputs:
        return [_lone(layout, outputs, requests[0])]
    parts = _parts(layout, outputs, requests)
    return [_chosen(part, request) for part, request in zip(parts, requests, strict=True)]


def _lone(layout: BatchLayout, outputs: dict[str, Array], request: InferRequest) -> dict[str, Array]:
    """The answer to a request that ran alone, and so ran for its own outputs only."""
    for name, array in outputs.items():
        if not array.ndim:
            outputs = {**outputs, name: layout.client_output(name, array)}
        elif layout.batched and array.shape[0] != request.batch_size:
            _check_rows(name, array, request.batch_size)
    return outputs


def _parts(
    layout: BatchLayout, outputs: dict[str, Array], requests: Sequence[InferRequest]
) -> list[dict[str, Array]]:
    """Each request's part of every output, in the shapes that the config promises to callers."""
    scattered = layout.ragged.outputs
    stops = list(accumulate([request.batch_size for request in requests]))
    parts: list[dict[str, Array]] = [{} for _ in requests]
    for name, array in outputs.items():
        if name in scattered:
            pieces = layout.ragged.scatter(name, array, requests)
            for part, piece in zip(parts, pieces, strict=True):
                part[name] = layout.client_output(name, piece)
            continue
        client = layout.client_output(name, array)
        if layout.batched:
            _check_rows(name, client, stops[-1])
        if len(parts) == 1:
            parts[0][name] = client
            continue
        start = 0
        for part, stop in zip(parts, stops, strict=True):
            part[name] = client[start:stop]
            start = stop
    return parts


def _chosen(outputs: dict[str, Array], request: InferRequest) -> dict[str, Array]:
    if request.outputs is None:
        return outputs
    return {name: outputs[name] for name in sorted(request.outputs)}


def _check_rows(name: str, array: Array, total: int) -> None:
    if array.shape[0] != total:
        raise InternalError(
            f"output '{name}' has shape {list(array.shape)} for a batch of {total}: "
            "its first dimension must be the batch's size"
        )
