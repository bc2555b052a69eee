"""The shape of a model's inputs where it is known before any request: fixed, declared, a picture's. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.config.runtime_keys import CUDA_SHAPES
from naiad.config.vision_config import ColorOrder, Layout
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import WILDCARD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.config.vision_config import InputConfig

_MAX_DIGITS = 9


def graph_dims(tensor: TensorConfig) -> tuple[int, ...]:
    """What the graph takes, without the batch dimension; -1 is any size."""
    return tensor.dims if tensor.reshape is None else tensor.reshape


def expected_dims(
    config: ModelConfig, tensor: TensorConfig, declared: Mapping[str, tuple[int, ...]] | None = None
) -> tuple[int, ...]:
    """What the graph will be given of an input, without the batch dimension; -1 where nobody says it.

    Args:
        config: complete.
        tensor: one of its inputs.
        declared: from `declared_shapes`.
    """
    if declared and tensor.name in declared:
        return declared[tensor.name]
    dims = graph_dims(tensor)
    if config.vision is not None and config.vision.input.tensor == tensor.name:
        return _with_picture_size(dims, config.vision.input)
    return dims


def declared_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shapes that `naiad.cuda_shapes` declares, by input: `images:3x640x640,scale:2`.

    Raises:
        InvalidArgumentError: it is written otherwise, names no input, or contradicts the input's dims.
    """
    value = config.parameters.get(CUDA_SHAPES)
    if value is None:
        return {}
    inputs = {tensor.name: tensor for tensor in config.inputs}
    declared: dict[str, tuple[int, ...]] = {}
    for entry in value.split(","):
        # A tensor's name may hold colons itself.
        name, colon, text = entry.strip().rpartition(":")
        sizes = text.split("x")
        if not colon or not all(_is_size(size) for size in sizes):
            raise _wrong(value, "INPUT:SIZExSIZE… without the batch dimension, such as images:3x640x640")
        if name not in inputs:
            raise _wrong(value, f"one of the inputs {', '.join(sorted(inputs))} in place of '{name}'")
        dims, shape = graph_dims(inputs[name]), tuple(map(int, sizes))
        if len(dims) != len(shape) or any(
            dim not in (WILDCARD, size) for dim, size in zip(dims, shape, strict=True)
        ):
            raise _wrong(value, f"a shape for '{name}' that fits its dims {list(dims)}")
        declared[name] = shape
    return declared


def _is_size(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS and int(text) > 0


def _with_picture_size(dims: tuple[int, ...], picture: InputConfig) -> tuple[int, ...]:
    """Fill the last three dimensions of a picture input; what is before them is a batch of one."""
    if len(dims) < 3:
        return dims
    channels = 1 if picture.color is ColorOrder.GRAY else 3
    size: tuple[int | None, ...] = (channels, picture.height, picture.width)
    if picture.layout is Layout.NHWC:
        size = (picture.height, picture.width, channels)
    known = zip(dims[-3:], size, strict=True)
    return (*dims[:-3], *(dim if dim != WILDCARD or fill is None else fill for dim, fill in known))


def _wrong(value: str, expected: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"parameter '{CUDA_SHAPES}' is '{value}', expected {expected}")
