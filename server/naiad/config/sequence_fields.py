"""Triton's `sequence_batching` message to the domain's, field by field."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.config.messages import enum_name
from naiad.config.sequence_config import (
    DEFAULT_MAX_SEQUENCE_IDLE_US,
    ControlConfig,
    ControlKind,
    DirectStrategy,
    InitialState,
    OldestStrategy,
    SequenceBatching,
    StateConfig,
)
from naiad.core.datatypes import DataType

if TYPE_CHECKING:
    from naiad.config.messages import Message

VALUE_LISTS = {
    "int32_false_true": DataType.INT32,
    "fp32_false_true": DataType.FP32,
    "bool_false_true": DataType.BOOL,
}
"""The fields of which a control that is not CORRID sets one, and the datatype that each gives it."""


def sequence_batching(message: Message) -> SequenceBatching | None:
    """The block of a validated `ModelConfig` message, or None if it has none."""
    if not message.HasField("sequence_batching"):
        return None
    block = message.sequence_batching
    return SequenceBatching(
        strategy=_oldest(block.oldest) if block.HasField("oldest") else _direct(block.direct),
        max_sequence_idle_us=block.max_sequence_idle_microseconds or DEFAULT_MAX_SEQUENCE_IDLE_US,
        controls=tuple(_control(tensor.name, tensor.control[0]) for tensor in block.control_input),
        states=tuple(_state(state) for state in block.state),
    )


def _direct(direct: Message) -> DirectStrategy:
    return DirectStrategy(direct.max_queue_delay_microseconds, direct.minimum_slot_utilization)


def _oldest(oldest: Message) -> OldestStrategy:
    return OldestStrategy(
        max_candidate_sequences=oldest.max_candidate_sequences,
        preferred_batch_sizes=tuple(oldest.preferred_batch_size),
        max_queue_delay_us=oldest.max_queue_delay_microseconds,
        preserve_ordering=oldest.preserve_ordering,
    )


def _control(name: str, control: Message) -> ControlConfig:
    kind = ControlKind(enum_name(control, "kind"))
    if kind is ControlKind.CORRID:
        return ControlConfig(name, kind, DataType.from_config_name(enum_name(control, "data_type")))
    field = next(field for field in VALUE_LISTS if getattr(control, field))
    false, true = getattr(control, field)
    return ControlConfig(name, kind, VALUE_LISTS[field], false, true)


def _state(state: Message) -> StateConfig:
    initial = state.initial_state[0] if state.initial_state else None
    return StateConfig(
        input_name=state.input_name,
        output_name=state.output_name,
        datatype=DataType.from_config_name(enum_name(state, "data_type")),
        dims=tuple(state.dims),
        initial=None if initial is None else _initial(initial),
    )


def _initial(initial: Message) -> InitialState:
    return InitialState(
        name=initial.name,
        datatype=DataType.from_config_name(enum_name(initial, "data_type")),
        dims=tuple(initial.dims),
        data_file=initial.data_file,
    )
