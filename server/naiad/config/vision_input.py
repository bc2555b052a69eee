"""What an image input's dims say about layout, channels and size, and whether the parameters agree. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.config.vision_config import ColorOrder, Layout, Resize
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import WILDCARD

if TYPE_CHECKING:
    from naiad.config.model_config import TensorConfig

Dims = tuple[int, int, int]
"""An image's dims in the model's own order, without any batch dimension; -1 is any size."""

_CHANNEL_COUNTS = (1, 3)
_RESIZES = " or ".join(resize.value for resize in Resize if resize is not Resize.NONE)


def check_image_dims(tensor: TensorConfig, *, batched: bool) -> Dims:
    """The three dims of the image that the input holds.

    A model without a batch dimension of its own may still have a leading 1, as published detectors often do.

    Raises:
        InvalidArgumentError: the input cannot be an image.
    """
    dims = tensor.dims
    if not batched and len(dims) == 4 and dims[0] in (1, WILDCARD):
        dims = dims[1:]
    if len(dims) != 3 or tensor.datatype in (DataType.BYTES, DataType.BOOL):
        raise InvalidArgumentError(
            f"naiad.task needs an image input of 3 dims of numbers (channels, height and width); "
            f"input '{tensor.name}' is {tensor.datatype.config_name} {_bracketed(tensor.dims)}"
        )
    return (dims[0], dims[1], dims[2])


def read_layout(tensor: TensorConfig, dims: Dims, hint: Layout | None) -> Layout:
    """The layout that the dims show, else the hint.

    Raises:
        InvalidArgumentError: both ends, or neither, could be the channels, and there is no hint.
    """
    first, last = dims[0] in _CHANNEL_COUNTS, dims[2] in _CHANNEL_COUNTS
    if first != last:
        return Layout.NCHW if first else Layout.NHWC
    if hint is None:
        raise InvalidArgumentError(
            f"naiad.input.layout is missing and cannot be read off input '{tensor.name}' with dims "
            f"{_bracketed(tensor.dims)}: set it to nchw or nhwc"
        )
    return hint


def check_color(tensor: TensorConfig, dims: Dims, layout: Layout, color: ColorOrder, *, chosen: bool) -> int:
    """How many channels the color order has, which the dims must agree with.

    Args:
        tensor: the image input.
        dims: its dims without batch.
        layout: where the channels are.
        color: the channel order.
        chosen: whether the config names `color`, or it is the default.

    Raises:
        InvalidArgumentError: the input has another number of channels.
    """
    wanted = 1 if color is ColorOrder.GRAY else 3
    actual = dims[0] if layout is Layout.NCHW else dims[2]
    if actual not in (wanted, WILDCARD):
        given = f"is '{color.value}'" if chosen else f"is missing, so '{color.value}'"
        allowed = {1: "gray", 3: "rgb or bgr"}.get(actual, "another naiad.input.layout")
        raise InvalidArgumentError(
            f"naiad.input.color {given} with {wanted} channels, input '{tensor.name}' "
            f"({layout.value} {_bracketed(tensor.dims)}) has {actual}: expected {allowed}"
        )
    return wanted


def choose_size(
    tensor: TensorConfig, dims: Dims, layout: Layout, resize: Resize | None, size: tuple[int, int] | None
) -> tuple[Resize, tuple[int, int] | None]:
    """How pictures are resized and to which (width, height); NONE and None if the model takes any size.

    Args:
        tensor: the image input.
        dims: its dims without batch.
        layout: where height and width are.
        resize: `naiad.input.resize`, or None.
        size: `naiad.input.size` as (width, height), or None.

    Raises:
        InvalidArgumentError: the parameters contradict each other or the dims, or a size is missing.
    """
    height, width = dims[1:] if layout is Layout.NCHW else dims[:2]
    where = f"input '{tensor.name}' ({layout.value} {_bracketed(tensor.dims)})"
    if size is not None and (width not in (size[0], WILDCARD) or height not in (size[1], WILDCARD)):
        raise InvalidArgumentError(
            f"naiad.input.size is '{size[0]}x{size[1]}': {where} takes width {_any(width)}, "
            f"height {_any(height)}"
        )
    fixed = (width, height) != (WILDCARD, WILDCARD)
    if resize is Resize.NONE and (fixed or size is not None):
        why = f"{where} has a fixed size" if fixed else "naiad.input.size is set"
        raise InvalidArgumentError(f"naiad.input.resize is 'none' but {why}: expected {_RESIZES}")
    if size is None and WILDCARD not in (width, height):
        size = (width, height)
    if size is not None:
        return resize or Resize.LETTERBOX, size
    if fixed or resize not in (None, Resize.NONE):
        raise InvalidArgumentError(f"naiad.input.size is missing: {where} leaves a side open")
    return Resize.NONE, None


def _any(side: int) -> str:
    return "any" if side == WILDCARD else str(side)


def _bracketed(dims: tuple[int, ...]) -> str:
    return f"[{','.join(str(dim) for dim in dims)}]"
