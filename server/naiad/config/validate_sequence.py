"""What Triton refuses in a `sequence_batching` block before it looks at the model, in Triton's own words."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from naiad.config.messages import enum_name
from naiad.config.sequence_config import ControlKind
from naiad.config.sequence_fields import VALUE_LISTS
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import WILDCARD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.config.messages import Message

_CORRID_TYPES = ("TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING")


def validate_sequence_batching(message: Message) -> None:
    """Check the block of a normalised config.

    Raises:
        InvalidArgumentError: Triton's message for the first rule that is broken.
    """
    block, name = message.sequence_batching, message.name
    if message.response_cache.enable:
        raise InvalidArgumentError(
            f"Response Cache does not currently support model {name} with sequence batching scheduler. "
            "Please disable the response cache."
        )
    _validate_control_inputs(block.control_input, name)
    for size in block.oldest.preferred_batch_size:
        if size <= 0:
            raise InvalidArgumentError(f"sequence batching preferred batch size must be positive for {name}")
        if size > message.max_batch_size:
            raise InvalidArgumentError(
                f"sequence batching preferred batch size must be <= max batch size for {name}"
            )
    if not 0 <= block.direct.minimum_slot_utilization <= 1:
        raise InvalidArgumentError(
            f"sequence batching minimum slot utilization must be in range (0.0, 1.0] for {name}"
        )
    if block.oldest.max_candidate_sequences < 0:
        raise InvalidArgumentError(
            f"max_candidate_sequences is {block.oldest.max_candidate_sequences}, it must be at least 0 "
            f"for {name}"
        )
    _validate_states(block.state, name)


def _validate_control_inputs(tensors: Sequence[Message], name: str) -> None:
    seen_tensors: set[str] = set()
    seen_kinds: set[str] = set()
    for tensor in tensors:
        if not tensor.name:
            raise InvalidArgumentError(f"sequence batching control tensor must have a name for {name}")
        if tensor.name in seen_tensors or len(tensor.control) > 1:
            raise InvalidArgumentError(
                f"sequence batching control tensor '{tensor.name}' is specified for multiple control kinds "
                f"for {name}"
            )
        if not tensor.control:
            raise InvalidArgumentError(
                f"sequence batching control tensor '{tensor.name}' must specify a control kind for {name}"
            )
        [control] = tensor.control
        kind = enum_name(control, "kind")
        if kind in seen_kinds:
            raise InvalidArgumentError(f"sequence batching specifies multiple {kind} tensors for {name}")
        seen_tensors.add(tensor.name)
        seen_kinds.add(kind)
        _validate_control(control, kind, name)


def _validate_control(control: Message, kind: str, name: str) -> None:
    given = [field for field in VALUE_LISTS if getattr(control, field)]
    if kind == ControlKind.CORRID.value:
        _validate_correlation_id(control, given, name)
        return
    suffix = f"for {kind} for {name}"
    if not given:
        raise InvalidArgumentError(
            "sequence batching must specify either 'int32_false_true', 'fp32_false_true' or "
            f"'bool_false_true' {suffix}"
        )
    if len(given) > 1:
        raise InvalidArgumentError(
            "sequence batching specifies more than one from 'int32_false_true', 'fp32_false_true' and "
            f"'bool_false_true' {suffix}"
        )
    if len(getattr(control, given[0])) != 2:
        raise InvalidArgumentError(
            f"sequence batching control '{given[0]}' must have exactly 2 entries {suffix}"
        )
    if enum_name(control, "data_type") != "TYPE_INVALID":
        raise InvalidArgumentError(
            f"sequence batching control must not specify 'data_type' {suffix}: '{given[0]}' says it"
        )


def _validate_correlation_id(control: Message, given: Sequence[str], name: str) -> None:
    kind = ControlKind.CORRID.value
    if given:
        raise InvalidArgumentError(
            "sequence batching must not specify either 'int32_false_true', 'fp32_false_true' or "
            f"'bool_false_true' for {kind} for {name}"
        )
    if enum_name(control, "data_type") not in _CORRID_TYPES:
        raise InvalidArgumentError(
            f"unexpected data type for control {kind} for {name}. Allowed data types are TYPE_UINT64, "
            "TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING"
        )


def _validate_states(states: Sequence[Message], name: str) -> None:
    for state in states:
        what = f"state '{state.input_name}' of sequence batching"
        if not (state.input_name and state.output_name):
            raise InvalidArgumentError(f"{what} must specify 'input_name' and 'output_name' for {name}")
        if enum_name(state, "data_type") == "TYPE_INVALID":
            raise InvalidArgumentError(f"{what} must specify 'data_type' for {name}")
        if not state.dims or any(dim < 1 and dim != WILDCARD for dim in state.dims):
            raise InvalidArgumentError(
                f"{what} must specify 'dims' of integers >= 1, or -1 to indicate a variable-size dimension "
                f"for {name}"
            )
        if len(state.initial_state) > 1:
            raise InvalidArgumentError(
                f"initial_state field for state input '{state.input_name}' must contain exactly one or zero "
                f"element. Found '{len(state.initial_state)}' elements."
            )
        for initial in state.initial_state:
            _validate_initial(initial, state)
    for field, what in (("input_name", "input"), ("output_name", "output")):
        counts = Counter(getattr(state, field) for state in states)
        for each in counts:
            if counts[each] > 1:
                raise InvalidArgumentError(f"State {what} name '{each}' specified more than once.")


def _validate_initial(initial: Message, state: Message) -> None:
    name = state.input_name
    if initial.data_type != state.data_type:
        raise InvalidArgumentError(
            f"The data type used for 'initial_state' field of state '{name}' does not match the state data "
            "type."
        )
    if not initial.name:
        raise InvalidArgumentError(
            f"Field 'name' must be set when using initial_state for state input '{name}'."
        )
    if len(initial.dims) != len(state.dims):
        raise InvalidArgumentError(
            "Number of dimensions in 'initial_state' doesn't match the size of 'state' dimensions for state "
            f"input '{name}'. {len(initial.dims)} != {len(state.dims)}"
        )
    for ours, theirs in zip(initial.dims, state.dims, strict=True):
        if ours < 0:
            raise InvalidArgumentError(
                f"'initial_state' field for state input name '{name}' contains variable dimensions."
            )
        if theirs not in (WILDCARD, ours):
            raise InvalidArgumentError(
                f"'initial_state' dim for input name '{name}' doesn't match 'state' dim description. "
                f"{ours} != {theirs}"
            )
    if initial.WhichOneof("state_data") is None:
        raise InvalidArgumentError(f"initial_state setting expects state'{name}' to have state_data set")
