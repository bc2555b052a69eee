"""Fills what a config leaves out, as Triton does: backend fields from the folder, then defaults."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from naiad.config.sequence_config import DEFAULT_MAX_SEQUENCE_IDLE_US
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.config.messages import Message

ONNX_PLATFORM = "onnxruntime_onnx"
ONNX_BACKEND = "onnxruntime"
ONNX_FILENAME = "model.onnx"

_VERSION_FOLDER = re.compile(r"0|[1-9][0-9]*")


def fill_backend(message: Message, model_dir: Path) -> None:
    """Fill name, backend, platform and default filename from each other and from the folder.

    Args:
        message: changed in place.
        model_dir: the model's folder; its name is the model's name.

    Raises:
        InvalidArgumentError: nothing says which backend the model is for, or the folder cannot be listed.
    """
    message.name = message.name or model_dir.name
    if not message.backend and _is_onnx(message, model_dir):
        message.backend = ONNX_BACKEND
    if message.backend == ONNX_BACKEND:
        message.platform = message.platform or ONNX_PLATFORM
        message.default_model_filename = message.default_model_filename or ONNX_FILENAME
    elif not (message.backend or message.platform or message.default_model_filename):
        _fill_custom_backend(message, model_dir.name)


def fill_defaults(message: Message) -> None:
    """Fill the fields that Triton's ModelConfig RPC shows even if the file was silent. Changes `message`."""
    if not message.HasField("version_policy"):
        message.version_policy.latest.num_versions = 1
    if message.HasField("dynamic_batching"):
        sizes = message.dynamic_batching.preferred_batch_size
        if not sizes and message.max_batch_size > 0:
            sizes.append(message.max_batch_size)
    if message.HasField("sequence_batching"):
        _fill_sequence_batching(message)
    if message.HasField("ensemble_scheduling"):
        return
    for side in ("input_pinned_memory", "output_pinned_memory"):
        if not message.optimization.HasField(side):
            getattr(message.optimization, side).enable = True
    for index, group in enumerate(message.instance_group):
        group.name = group.name or f"{message.name}_{index}"


def _fill_sequence_batching(message: Message) -> None:
    block = message.sequence_batching
    if not block.max_sequence_idle_microseconds:
        block.max_sequence_idle_microseconds = DEFAULT_MAX_SEQUENCE_IDLE_US
    if block.HasField("oldest") and not block.oldest.preferred_batch_size and message.max_batch_size > 0:
        block.oldest.preferred_batch_size.append(message.max_batch_size)


def _is_onnx(message: Message, model_dir: Path) -> bool:
    if message.platform == ONNX_PLATFORM or message.default_model_filename == ONNX_FILENAME:
        return True
    if message.platform or message.default_model_filename:
        return False
    try:
        # In the order of their names as text, as Triton does.
        versions = sorted(
            entry for entry in model_dir.iterdir() if _VERSION_FOLDER.fullmatch(entry.name) and entry.is_dir()
        )
        return bool(versions) and (versions[0] / ONNX_FILENAME).exists()
    except OSError as error:
        raise InvalidArgumentError(f"cannot list model folder {model_dir}: {error.strerror}") from error


def _fill_custom_backend(message: Message, model_name: str) -> None:
    """Triton reads a custom backend's name off a folder called `model.<backend>`."""
    _, dot, backend = model_name.partition(".")
    if not dot:
        raise InvalidArgumentError(
            f"Invalid model name: Could not determine backend for model '{model_name}' with no backend in "
            "model configuration. Expected model name of the form 'model.<backend_name>'."
        )
    message.backend = backend
    message.default_model_filename = f"model.{backend}"
