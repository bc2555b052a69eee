"""What Triton refuses in a config before it looks at the model, in Triton's own words."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

from naiad.config.ensemble_config import ENSEMBLE_PLATFORM
from naiad.config.messages import enum_name
from naiad.config.normalize import ONNX_BACKEND, ONNX_PLATFORM
from naiad.config.ragged_fields import validate_batch_io
from naiad.config.validate_ensemble import validate_ensemble, validate_ensemble_backend
from naiad.config.validate_sequence import validate_sequence_batching
from naiad.core.errors import InvalidArgumentError, UnsupportedError
from naiad.core.tensors import WILDCARD

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from naiad.config.messages import Message

MAX_INSTANCES = 256
"""Instances of a model in all its groups: each is a thread, and on a GPU a copy of the weights."""


def validate_config(message: Message, folder_name: str) -> None:
    """Check everything of a normalised config that needs neither the model nor the machine.

    Raises:
        InvalidArgumentError: Triton's message for the first rule that is broken.
        UnsupportedError: a label file lies outside the model's folder.
    """
    validate_ensemble_backend(message)
    if not message.backend and message.platform != ENSEMBLE_PLATFORM:
        raise InvalidArgumentError(f"unexpected platform type '{message.platform}' for {message.name}")
    if message.backend == ONNX_BACKEND and message.platform != ONNX_PLATFORM:
        raise InvalidArgumentError(
            f"unexpected 'platform' and 'backend' pair, got:{message.platform}, {message.backend}"
        )
    if message.max_batch_size < 0:
        raise InvalidArgumentError(f"'max_batch_size' must be non-negative value for {message.name}")
    if message.HasField("dynamic_batching"):
        _validate_dynamic_batching(message)
    if message.HasField("sequence_batching"):
        validate_sequence_batching(message)
    validate_ensemble(message)
    validate_tensors(message)
    if message.name != folder_name:
        raise InvalidArgumentError(
            f"unexpected directory name '{folder_name}' for model '{message.name}', "
            "directory name must equal model name"
        )


def validate_tensors(message: Message) -> None:
    """Check the declared inputs and outputs; run again once they were completed from the graph.

    Raises:
        InvalidArgumentError: Triton's message for the first rule that is broken.
        UnsupportedError: a label file lies outside the model's folder.
    """
    for tensor in message.input:
        _validate_tensor(tensor, "model input", message)
        if enum_name(tensor, "format") != "FORMAT_NONE" and len(tensor.dims) != 3:
            raise InvalidArgumentError(f"model input NHWC/NCHW require 3 dims for {message.name}")
    for tensor in message.output:
        _validate_tensor(tensor, "model output", message)
        _validate_label_file(tensor, message.name)
    for tensors, what in ((message.input, "input"), (message.output, "output")):
        _validate_unique([tensor.name for tensor in tensors], what, message.name)
    validate_batch_io(message)


def validate_instance_groups(message: Message) -> None:
    """Check the instance groups as far as that needs no knowledge of the machine's GPUs.

    Raises:
        InvalidArgumentError: Triton's message, a negative count or more than `MAX_INSTANCES`.
    """
    for group in message.instance_group:
        prefix = f"instance group {group.name} of model {message.name}"
        kind = enum_name(group, "kind")
        if kind in ("KIND_CPU", "KIND_MODEL") and group.gpus:
            raise InvalidArgumentError(f"{prefix} has kind {kind} but specifies one or more GPUs")
        if group.profile:
            raise InvalidArgumentError(
                f"{prefix} and platform {message.platform} specifies profile field which is only supported "
                "for TensorRT models"
            )
        if group.count < 0:
            raise InvalidArgumentError(f"{prefix} has count {group.count}, it must be at least 1")
    total = sum(max(1, group.count) for group in message.instance_group)
    if total > MAX_INSTANCES:
        raise InvalidArgumentError(
            f"the instance groups of model {message.name} have {total} instances, "
            f"at most {MAX_INSTANCES} are served"
        )


def _validate_dynamic_batching(message: Message) -> None:
    batching, name = message.dynamic_batching, message.name
    for size in batching.preferred_batch_size:
        if size <= 0:
            raise InvalidArgumentError(f"dynamic batching preferred size must be positive for {name}")
        if size > message.max_batch_size:
            raise InvalidArgumentError(
                f"dynamic batching preferred size must be <= max batch size for {name}"
            )
    levels = batching.priority_levels
    if levels and not 1 <= batching.default_priority_level <= levels:
        raise InvalidArgumentError(f"default priority level must be in range [1, {levels}] for {name}")
    if levels and not all(1 <= level <= levels for level in batching.priority_queue_policy):
        raise InvalidArgumentError(
            f"priority queue policy must have priority level in range [1, {levels}] for {name}"
        )
    if batching.preserve_ordering:
        _validate_preserve_ordering(batching, name)


def _validate_preserve_ordering(batching: Message, name: str) -> None:
    if batching.priority_levels > 1:
        raise InvalidArgumentError(
            f"Only one priority level is allowed when 'preserve_ordering' is true for {name}"
        )
    for policy in (batching.default_queue_policy, *batching.priority_queue_policy.values()):
        if policy.default_timeout_microseconds and enum_name(policy, "timeout_action") == "DELAY":
            raise InvalidArgumentError(
                "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true "
                f"for {name}"
            )


def _validate_tensor(tensor: Message, what: str, message: Message) -> None:
    suffix = f" for {message.name}"
    if not tensor.name:
        raise InvalidArgumentError(f"{what} must specify 'name'{suffix}")
    prefix = f"{what} '{tensor.name}' "
    if enum_name(tensor, "data_type") == "TYPE_INVALID":
        raise InvalidArgumentError(f"{prefix}must specify 'data_type'{suffix}")
    if not tensor.dims:
        raise InvalidArgumentError(f"{prefix}must specify 'dims'{suffix}")
    rule = f"must be integer >= 1, or -1 to indicate a variable-size dimension{suffix}"
    if _has_bad_dim(tensor.dims):
        raise InvalidArgumentError(f"{prefix}dimension {rule}")
    if tensor.HasField("reshape"):
        if not tensor.reshape.shape and message.max_batch_size == 0:
            raise InvalidArgumentError(
                f"{prefix}cannot have empty reshape for non-batching model as scalar tensors are not "
                f"supported{suffix}"
            )
        if _has_bad_dim(tensor.reshape.shape):
            raise InvalidArgumentError(f"{prefix}reshape dimensions {rule}")
        _validate_reshape(list(tensor.dims), list(tensor.reshape.shape), prefix, suffix)
    if tensor.is_shape_tensor:
        raise InvalidArgumentError(f"shape tensors are only supported for TensorRT platform{suffix}")
    if tensor.is_non_linear_format_io:
        raise InvalidArgumentError(
            f"Non-linear IO format is only supported for the TensorRT platform{suffix}"
        )


def _has_bad_dim(dims: Iterable[int]) -> bool:
    return any(dim < 1 and dim != WILDCARD for dim in dims)


def _validate_reshape(dims: Sequence[int], shape: Sequence[int], prefix: str, suffix: str) -> None:
    """Both sides must hold as many elements between each two variable-size dimensions."""
    ours, theirs = _trunks(dims), _trunks(shape)
    detail = f": dims {_bracketed(dims)}, reshape {_bracketed(shape)}{suffix}"
    if len(ours) != len(theirs) and len(ours) > 1 and len(theirs) > 1:
        raise InvalidArgumentError(
            f"{prefix}has different number of variable-size dimensions for dims and reshape{detail}"
        )
    if ours != theirs:
        raise InvalidArgumentError(f"{prefix}has different size for dims and reshape{detail}")


def _trunks(dims: Sequence[int]) -> list[int]:
    """How many elements lie before, between and after the variable-size dimensions."""
    borders = [-1, *(index for index, dim in enumerate(dims) if dim == WILDCARD), len(dims)]
    return [math.prod(dims[start + 1 : end]) for start, end in pairwise(borders)]


def _bracketed(dims: Iterable[int]) -> str:
    return f"[{','.join(str(dim) for dim in dims)}]"


def _validate_label_file(tensor: Message, model_name: str) -> None:
    """Refuse `..` and absolute paths. A symlink is its owner's choice: that is how stores share files."""
    parts = tensor.label_filename.split("/")
    if tensor.label_filename.startswith("/") or ".." in parts:
        raise UnsupportedError(
            f"label file path '{tensor.label_filename}' for output '{tensor.name}' in model '{model_name}' "
            "is outside model directory"
        )


def _validate_unique(names: Sequence[str], what: str, model_name: str) -> None:
    counts = Counter(names)
    for name in counts:
        if counts[name] > 1:
            raise InvalidArgumentError(f"model {what} '{name}' is specified more than once for {model_name}")
