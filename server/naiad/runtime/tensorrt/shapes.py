"""`naiad.tensorrt_shapes`: the sizes that a config lets dynamic dimensions have. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from naiad.config.runtime_keys import TENSORRT_SHAPES
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import WILDCARD
from naiad.runtime.shapes import graph_dims

if TYPE_CHECKING:
    from collections.abc import Mapping

    from naiad.config.model_config import ModelConfig, TensorConfig

FORM = "INPUT:MIN/OPT/MAX[,INPUT:…], each of MIN, OPT and MAX such as 3x640x640 without the batch dimension"

_SHAPE = re.compile(r"[1-9][0-9]{0,8}(x[1-9][0-9]{0,8})*")


class ShapeRange(NamedTuple):
    """The smallest, the usual and the largest shape of one input."""

    low: tuple[int, ...]
    usual: tuple[int, ...]
    high: tuple[int, ...]

    def holds(self, shape: tuple[int, ...]) -> bool:
        """Whether a shape of the same rank lies within."""
        return len(shape) == len(self.low) and all(
            low <= size <= high for low, size, high in zip(self.low, shape, self.high, strict=True)
        )

    def __str__(self) -> str:
        return "/".join("x".join(map(str, shape)) for shape in self)


def read_declared_shapes(config: ModelConfig) -> dict[str, ShapeRange]:
    """The ranges that `naiad.tensorrt_shapes` declares, by input; empty without that parameter.

    The shapes are those that the graph gets, without the batch dimension of a batched model. One shape alone
    stands for all three.

    Args:
        config: complete.

    Raises:
        InvalidArgumentError: it is not of its form, or does not suit the model; names the key and the value.
    """
    value = config.parameters.get(TENSORRT_SHAPES)
    if value is None:
        return {}
    tensors = {tensor.name: tensor for tensor in config.inputs}
    ranges: dict[str, ShapeRange] = {}
    for entry in filter(None, map(str.strip, value.split(","))):
        # Names may hold a colon, shapes never do.
        name, colon, shapes = entry.rpartition(":")
        if not colon:
            raise _wrong(entry, f"{FORM}")
        if name.strip() in ranges:
            raise _wrong(entry, f"each input once: '{name.strip()}' is there twice")
        ranges[name.strip()] = _range(entry, shapes, _tensor(entry, name.strip(), tensors))
    if not ranges:
        raise _wrong(value, FORM)
    return ranges


def _tensor(entry: str, name: str, tensors: Mapping[str, TensorConfig]) -> TensorConfig:
    if name not in tensors:
        raise _wrong(entry, f"an input of the model: {', '.join(tensors)}")
    return tensors[name]


def _range(entry: str, text: str, tensor: TensorConfig) -> ShapeRange:
    parts = [part.strip() for part in text.split("/")]
    if len(parts) not in (1, 3) or not all(map(_SHAPE.fullmatch, parts)):
        raise _wrong(entry, FORM)
    shapes = [tuple(map(int, part.split("x"))) for part in parts]
    declared = ShapeRange(shapes[0], shapes[len(shapes) // 2], shapes[-1])
    dims = graph_dims(tensor)
    if any(len(shape) != len(dims) for shape in shapes):
        raise _wrong(entry, f"{len(dims)} dimensions, as input '{tensor.name}' has: {list(dims)}")
    for size, low, usual, high in zip(dims, *declared, strict=True):
        if not low <= usual <= high:
            raise _wrong(entry, "no dimension of MIN above that of OPT, and none of OPT above that of MAX")
        if size not in (WILDCARD, low) or size not in (WILDCARD, high):
            raise _wrong(entry, f"the model's own sizes where they are fixed: {list(dims)}")
    return declared


def _wrong(value: str, expected: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"parameter '{TENSORRT_SHAPES}' is '{value[:500]}', expected {expected}")
