"""What a sequence model gets beside the caller's inputs: control tensors, states, empty rows."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from naiad.config.sequence_config import ControlKind, SequenceBatching
from naiad.core.datatypes import DataType, zeros
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import WILDCARD, InferRequest

if TYPE_CHECKING:
    from naiad.config.model_config import ModelConfig
    from naiad.config.sequence_config import ControlConfig, InitialState, StateConfig
    from naiad.core.tensors import Array
    from naiad.scheduling.sequence.table import LiveSequence

NULL_ID = b"0"
"""The text id of a row that stands empty: graphs turn ids into numbers, which an empty text cannot be."""


class SequenceInputs:
    """Adds control tensors and states to requests, and takes the next states from their outputs."""

    def __init__(self, config: ModelConfig) -> None:
        """Prepare every tensor that does not depend on a request.

        Args:
            config: complete, with a `sequence_batching` block whose initial states were read.
        """
        sequences = config.sequence_batching
        assert sequences is not None
        self._model = config.name
        self._shape = (1, 1) if config.max_batch_size > 0 else (1,)
        self._flags = {
            control.kind: (control.name, *_flag_values(control, self._shape))
            for control in sequences.controls
            if control.kind is not ControlKind.CORRID
        }
        self._id = next((each for each in sequences.controls if each.kind is ControlKind.CORRID), None)
        self._states = sequences.states
        self._initial = _initial_states(sequences, batched=config.max_batch_size > 0)
        self._client_outputs = tuple(sorted(output.name for output in config.outputs))

    def check(self, request: InferRequest) -> None:
        """Refuse what no sequence can take.

        Raises:
            InvalidArgumentError: Triton's message: the id's kind, the batch size, or no id at all.
        """
        control, sequence_id = self._id, request.sequence_id
        if control is not None and isinstance(sequence_id, str) != (control.datatype is DataType.BYTES):
            kind = "BYTES" if isinstance(sequence_id, str) else "UINT64"
            raise InvalidArgumentError(
                f"[request id: {request.request_id or '<id_unknown>'}] sequence batching control "
                f"'{control.name}' data-type is '{kind}', but model '{self._model}' expects "
                f"'{control.datatype.value}'"
            )
        if request.batch_size > 1:
            raise InvalidArgumentError(
                f"inference request to model '{self._model}' must specify batch-size 1 due to requirements "
                "of sequence batcher"
            )
        if not sequence_id:
            raise InvalidArgumentError(
                f"inference request to model '{self._model}' must specify a non-zero or non-empty "
                "correlation ID"
            )

    def prepare(self, request: InferRequest, sequence: LiveSequence) -> InferRequest:
        """The request as it is run now, as the next of its sequence; a START resets the states."""
        if request.sequence_start or sequence.states is None:
            sequence.states = self._initial
        inputs = {**request.inputs, **self._controls(request), **sequence.states}
        return self._run_as(request, inputs, self._wanted(request))

    def empty_row(self, like: InferRequest) -> InferRequest:
        """A row for a slot whose sequence has no request: zeros, shaped as in `like`, and not READY.

        Args:
            like: a prepared request of the same batch.
        """
        inputs = {name: _zeros_like(array) for name, array in like.inputs.items()}
        inputs |= {name: false for name, false, _ in self._flags.values()}
        if self._id is not None and self._id.datatype is DataType.BYTES:
            inputs[self._id.name] = np.full(self._shape, NULL_ID, dtype=np.object_)
        return self._run_as(like, inputs, like.outputs)

    def absorb(
        self, request: InferRequest, sequence: LiveSequence, outputs: dict[str, Array]
    ) -> dict[str, Array]:
        """Keep the states among a run's outputs for the sequence's next request.

        Returns:
            the outputs that the caller asked for.
        """
        if not self._states:
            return outputs
        sequence.states = {state.input_name: _owned(outputs[state.output_name]) for state in self._states}
        names = self._client_outputs if request.outputs is None else sorted(request.outputs)
        return {name: outputs[name] for name in names}

    def _controls(self, request: InferRequest) -> dict[str, Array]:
        on = {
            ControlKind.START: request.sequence_start,
            ControlKind.END: request.sequence_end,
            ControlKind.READY: True,
        }
        controls = {name: true if on[kind] else false for kind, (name, false, true) in self._flags.items()}
        if self._id is not None:
            controls[self._id.name] = _id_tensor(request.sequence_id, self._id, self._shape)
        return controls

    def _wanted(self, request: InferRequest) -> tuple[str, ...] | None:
        if not self._states:
            return request.outputs
        asked = self._client_outputs if request.outputs is None else request.outputs
        return tuple({*asked, *(state.output_name for state in self._states)})

    @staticmethod
    def _run_as(
        request: InferRequest, inputs: dict[str, Array], outputs: tuple[str, ...] | None
    ) -> InferRequest:
        return InferRequest(
            request.model_name, request.version, inputs, outputs, request.batch_size, request.request_id
        )


def _flag_values(control: ControlConfig, shape: tuple[int, ...]) -> tuple[Array, Array]:
    dtype = control.datatype.numpy
    return np.full(shape, control.false_value, dtype), np.full(shape, control.true_value, dtype)


def _id_tensor(sequence_id: int | str, control: ControlConfig, shape: tuple[int, ...]) -> Array:
    """The id as the model wants it; as in Triton the low bits are what a smaller type holds."""
    if isinstance(sequence_id, str):
        return np.full(shape, sequence_id.encode(), dtype=np.object_)
    dtype = control.datatype.numpy
    bits = sequence_id & (2 ** (8 * dtype.itemsize) - 1)
    return np.full(shape, bits, dtype=f"u{dtype.itemsize}").view(dtype)


def _zeros_like(array: Array) -> Array:
    """Zeros (empty texts) of the same shape that take no memory."""
    empty = b"" if array.dtype.hasobject else 0
    return np.broadcast_to(np.full((), empty, dtype=array.dtype), array.shape)


def _owned(array: Array) -> Array:
    """The array by itself: a view would keep the whole batch's output for as long as the sequence lives."""
    return array if array.base is None else array.copy()


def _initial_states(sequences: SequenceBatching, *, batched: bool) -> dict[str, Array]:
    return {state.input_name: _initial_state(state, batched=batched) for state in sequences.states}


def _initial_state(state: StateConfig, *, batched: bool) -> Array:
    """Zeros, of size 1 where any size goes, unless the config has an initial value."""
    dims = tuple(1 if dim == WILDCARD else dim for dim in state.dims)
    if state.initial is not None:
        dims = state.initial.dims
    shape = (1, *dims) if batched else dims
    if state.initial is None or not state.initial.data_file:
        return zeros(state.datatype, shape)
    if state.datatype is DataType.BYTES:
        return _texts(state.initial, shape)
    return np.frombuffer(state.initial.data, dtype=state.datatype.numpy).reshape(shape)


def _texts(initial: InitialState, shape: tuple[int, ...]) -> Array:
    """Texts, each after its length as a little-endian uint32; those that the file lacks are empty."""
    array = zeros(DataType.BYTES, shape)
    offset = 0
    for index in range(array.size):
        if offset + 4 > len(initial.data):
            break
        (length,) = struct.unpack_from("<I", initial.data, offset)
        array.flat[index] = initial.data[offset + 4 : offset + 4 + length]
        offset += 4 + length
    return array
