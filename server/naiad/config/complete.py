"""Completes a config from the graph: autofill, Triton's checks at load, and the vision settings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from naiad.config.autofill import decide_autofill
from naiad.config.domain import to_model_config
from naiad.config.graph_checks import check_graph
from naiad.config.initial_states import read_initial_states
from naiad.config.messages import enum_name, new_message
from naiad.config.normalize import fill_defaults
from naiad.config.reader import config_from_message
from naiad.config.validate import validate_tensors
from naiad.config.vision_config import Layout
from naiad.config.vision_parameters import read_vision_config
from naiad.config.warmup_config import read_warmup

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from naiad.config.autofill import Autofill
    from naiad.config.messages import Message
    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.core.tensors import TensorSpec


def complete_model_config(
    config: ModelConfig,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    optional_inputs: Collection[str] = (),
    default_max_batch_size: int = 4,
    auto_complete: bool = True,
) -> ModelConfig:
    """The config with everything that the graph adds, checked against the graph.

    Args:
        config: what `read_model_config` gave; it and its message are not changed.
        inputs: the graph's inputs in graph order, full shapes; None is an unknown rank and fits any dims.
        outputs: the graph's outputs in graph order, full shapes.
        optional_inputs: names of overridable initializers; they need no value in a request.
        default_max_batch_size: for a graph that can be batched when the config says nothing.
        auto_complete: whether missing inputs, outputs and batching are filled in from the graph.

    Returns:
        a complete config: tensors, batching, `vision`, warnings, and `message` as the ModelConfig RPC shows
        it.

    Raises:
        InvalidArgumentError: the config does not fit the graph, or a `naiad.…` parameter is wrong, or the
            file of an initial state, or a sample of `model_warmup`.
        InternalError: the graph lacks a sequence control tensor.
        UnsupportedError: a label file lies outside the model's folder.
    """
    message = new_message()
    message.CopyFrom(config.message)
    warnings = config.warnings
    required = [spec for spec in inputs if spec.name not in optional_inputs]
    fill = None
    if auto_complete:
        fill = decide_autofill(config, required, outputs, default_max_batch_size=default_max_batch_size)
    if fill is not None:
        _apply(fill, message)
        warnings = (*warnings, *fill.warnings)
    fill_defaults(message)
    validate_tensors(message)
    completed = replace(to_model_config(message, warnings=warnings), folder=config.folder)
    check_graph(completed, inputs, outputs, optional_inputs=optional_inputs)
    completed = replace(read_initial_states(completed), warmup=read_warmup(message))
    return replace(completed, vision=read_vision_config(completed, layout_hint=_layout_hint(message)))


def complete_ensemble_config(config: ModelConfig) -> ModelConfig:
    """The config of an ensemble, which no graph completes: `vision`, and the `message` as Triton shows it.

    Raises:
        InvalidArgumentError: a `naiad.…` parameter is wrong.
    """
    message = new_message()
    message.CopyFrom(config.message)
    message.model_transaction_policy.SetInParent()  # what Triton found out about the steps: none is decoupled
    vision = read_vision_config(config, layout_hint=_layout_hint(message))
    return replace(config, message=message, vision=vision)


def read_completed_config(message: Message, folder: Path) -> ModelConfig:
    """A config that was completed before, from its message, which is changed: `vision` is read out of it.

    Raises:
        InvalidArgumentError: the message is none of a completed config.
        UnsupportedError: a label file lies outside the model's folder.
    """
    config = config_from_message(message, folder)
    return replace(config, vision=read_vision_config(config, layout_hint=_layout_hint(message)))


def _apply(fill: Autofill, message: Message) -> None:
    message.max_batch_size = fill.max_batch_size
    if fill.add_dynamic_batching:
        message.dynamic_batching.SetInParent()
    for tensors, target in ((fill.inputs, message.input), (fill.outputs, message.output)):
        for tensor in tensors or ():
            _write_tensor(tensor, target.add())


def _write_tensor(tensor: TensorConfig, target: Message) -> None:
    target.name = tensor.name
    target.data_type = (
        target.DESCRIPTOR.fields_by_name["data_type"]
        .enum_type.values_by_name[tensor.datatype.config_name]
        .number
    )
    target.dims.extend(tensor.dims)
    if tensor.reshape is not None:
        target.reshape.SetInParent()
        target.reshape.shape.extend(tensor.reshape)


def _layout_hint(message: Message) -> Layout | None:
    """The layout that the only input's `format` names, for dims that leave it open."""
    formats = {"FORMAT_NCHW": Layout.NCHW, "FORMAT_NHWC": Layout.NHWC}
    return formats.get(enum_name(message.input[0], "format")) if len(message.input) == 1 else None
