"""Triton's `batch_input` and `batch_output`: what it refuses of them, in its words, and what they mean."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from naiad.config.messages import enum_name
from naiad.config.ragged_config import BatchInput, BatchInputKind, BatchOutput
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from naiad.config.messages import Message

_TYPES = ("TYPE_INT32", "TYPE_FP32")


def batch_inputs(message: Message) -> tuple[BatchInput, ...]:
    """The model inputs of a validated `ModelConfig` message that the server makes."""
    return tuple(
        BatchInput(
            kind=BatchInputKind(enum_name(each, "kind")),
            target_names=tuple(each.target_name),
            datatype=DataType.from_config_name(enum_name(each, "data_type")),
            source=each.source_input[0],
        )
        for each in message.batch_input
    )


def batch_outputs(message: Message) -> tuple[BatchOutput, ...]:
    """The outputs of a validated `ModelConfig` message that are cut by their requests' shapes."""
    return tuple(BatchOutput(tuple(each.target_name), each.source_input[0]) for each in message.batch_output)


def validate_batch_io(message: Message) -> None:
    """Check both fields. Names are looked up only where the config has inputs, or outputs, at all by now.

    Raises:
        InvalidArgumentError: Triton's message for the first rule that is broken; Naiad's own for names that
            are missing or given twice.
    """
    inputs = {tensor.name for tensor in message.input}
    outputs = {tensor.name for tensor in message.output}
    for each in message.batch_input:
        _validate_source(each, "input", message.name)
        if enum_name(each, "data_type") not in _TYPES:
            raise InvalidArgumentError(
                f"batch input data type must be TYPE_INT32 or TYPE_FP32 for {message.name}"
            )
        _validate_known(each.source_input, inputs, "source input", message.name)
    _validate_targets(message.batch_input, inputs, "input", message.name)
    for each in message.batch_output:
        _validate_source(each, "output", message.name)
        _validate_known(each.source_input, inputs, "source input", message.name)
        _validate_known(each.target_name, outputs, "target output", message.name)
    _validate_targets(message.batch_output, (), "output", message.name)


def _validate_source(each: Message, what: str, model: str) -> None:
    """A kind that JSON gives as a number may be none of Triton's: `enum_name` then has no name for it."""
    field = each.DESCRIPTOR.fields_by_name["kind"]
    if each.kind not in field.enum_type.values_by_number:
        raise InvalidArgumentError(f"unknown batch {what} kind '{each.kind}' for {model}")
    if len(each.source_input) != 1:
        raise InvalidArgumentError(
            f"batch {what} kind '{enum_name(each, 'kind')}' expects 1 source input, "
            f"got {len(each.source_input)} for {model}"
        )


def _validate_known(names: Iterable[str], known: set[str], what: str, model: str) -> None:
    for name in names:
        if known and name not in known:
            raise InvalidArgumentError(f"unknown {what} name '{name}' for {model}")


def _validate_targets(entries: Sequence[Message], taken: Iterable[str], what: str, model: str) -> None:
    for each in entries:
        if not each.target_name:
            raise InvalidArgumentError(
                f"batch {what} kind '{enum_name(each, 'kind')}' must specify 'target_name' for {model}"
            )
    counts = Counter((*taken, *(name for each in entries for name in each.target_name)))
    for name, count in counts.items():
        if count > 1:
            raise InvalidArgumentError(f"target {what} name '{name}' can only be specified once for {model}")
