"""Pixels to input tensors: resizes a picture and writes it straight into its slot of the batch. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from naiad.config.vision_config import ColorOrder, Layout, Resize
from naiad.core.datatypes import DataType
from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.vision.images import REDUCTIONS
from naiad.vision.placement import fitted, place, scaled_to
from naiad.vision.transform import Origin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.config.model_config import TensorConfig
    from naiad.config.vision_config import InputConfig
    from naiad.core.tensors import Array
    from naiad.vision.arrays import Pixels
    from naiad.vision.placement import Area, Placement
    from naiad.vision.transform import Transform

_DATATYPES = (DataType.UINT8, DataType.FP16, DataType.FP32)
_SOURCE_CHANNELS = {ColorOrder.BGR: (0, 1, 2), ColorOrder.RGB: (2, 1, 0)}


class Preprocessor:
    """Brings pictures into the form that one model's input tensor wants.

    Safe to call from several threads at once.
    """

    def __init__(self, config: InputConfig, tensor: TensorConfig, *, multiple: int = 1) -> None:
        """Check that config and tensor agree and prepare the value table.

        Args:
            config: the `naiad.input.…` settings.
            tensor: the input they are for. `dims` is `[C, H, W]` or `[H, W, C]`, or the same after a leading
                1 when the model has its batch of one written in the config.
            multiple: with `Resize.NONE` and free dims, sides are padded to a multiple of this.

        Raises:
            InvalidArgumentError: they contradict each other; names the key.
        """
        self._config = config
        self._name = tensor.name
        self._datatype = tensor.datatype
        self._multiple = multiple
        self._channels = 1 if config.color is ColorOrder.GRAY else 3
        _check_datatype(config, tensor)
        self._leading, (channels, height, width) = _split_dims(config, tensor)
        if channels not in {-1, self._channels}:
            raise InvalidArgumentError(
                f"naiad.input.color '{config.color.value}' has {self._channels} channels, "
                f"input '{tensor.name}' has {channels} (dims {list(tensor.dims)})"
            )
        self._height = _side(config, tensor, "height", config.height, height)
        self._width = _side(config, tensor, "width", config.width, width)
        self._tables = _value_tables(config, self._channels, tensor.datatype)
        self._bytes = tensor.datatype is DataType.UINT8  # mean and scale are neutral then
        self._as_is = self._bytes and config.layout is Layout.NHWC and config.color is ColorOrder.BGR

    @classmethod
    def for_inputs(
        cls, config: InputConfig, inputs: Sequence[TensorConfig], *, multiple: int = 1
    ) -> Preprocessor:
        """The pre-processor for the input that `config.tensor` names.

        Raises:
            InvalidArgumentError: the model has no such input, or the two contradict each other.
        """
        for tensor in inputs:
            if tensor.name == config.tensor:
                return cls(config, tensor, multiple=multiple)
        names = ", ".join(tensor.name for tensor in inputs)
        raise InvalidArgumentError(
            f"naiad.input is for tensor '{config.tensor}', the model's inputs are {names}"
        )

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The slot's element type: uint8, float16 or float32."""
        return self._datatype.numpy

    def shape_for(self, image: Pixels) -> tuple[int, ...]:
        """The shape of the slot that `image` needs, without the batch dimension.

        Raises:
            InvalidArgumentError: the model takes one size only, is not to resize, and this is another.
        """
        return self._shape(*self._input_size(image))

    @property
    def fixed_shape(self) -> tuple[int, ...] | None:
        """The shape of every slot, without the batch dimension; None if it depends on the picture."""
        if self._height is None or self._width is None:
            return None
        return self._shape(self._height, self._width)

    def _shape(self, height: int, width: int) -> tuple[int, ...]:
        if self._config.layout is Layout.NCHW:
            return (*self._leading, self._channels, height, width)
        return (*self._leading, height, width, self._channels)

    def reduction(self, width: int, height: int) -> int:
        """By how much a picture of that size, or on its side, may be reduced before `write`: 1, 2, 4 or 8.

        The largest that leaves at least as many pixels on both sides as the picture has within the input; 1
        if `naiad.input.reduced_decode` is off.
        """
        if not self._config.reduced_decode or self._config.resize is Resize.NONE:
            return 1
        for factor in REDUCTIONS:
            if all(self._suffices(sides, factor) for sides in ((width, height), (height, width))):
                return factor
        return 1

    def write(self, image: Pixels, out: Array, origin: Origin | None = None) -> Transform:
        """Resize `image` and write it, as the model wants it, over everything in `out`.

        Args:
            image: uint8 `[H, W, 3]`, BGR.
            out: the slot, of `shape_for(image)` and `dtype`; whatever it holds is overwritten.
            origin: what `image` is a reduced copy of; it has the same place in the input.

        Returns:
            The way back from the input's pixels to the picture's (the original's).

        Raises:
            InvalidArgumentError: as `shape_for`.
            InternalError: `out` has another shape or type.
        """
        shape = self.shape_for(image)
        if out.shape != shape or out.dtype != self.dtype:
            raise InternalError(
                f"slot of input '{self._name}' is {out.dtype} {list(out.shape)}, "
                f"needs {self.dtype} {list(shape)}"
            )
        origin = origin or Origin(image.shape[1], image.shape[0], 1)
        height, width = self._input_size(image)
        placement = place(self._config.resize, image, origin, (width, height))
        self._fill(image, placement, out[0] if self._leading else out)
        return placement.transform(origin, (width, height))

    def __call__(self, image: Pixels, origin: Origin | None = None) -> tuple[Array, Transform]:
        """A new tensor of `shape_for(image)` with `image` in it, and the way back; errors as `write`."""
        out: Array = np.empty(self.shape_for(image), self.dtype)
        return out, self.write(image, out, origin)

    def _input_size(self, image: Pixels) -> tuple[int, int]:
        """Height and width of the input for this picture."""
        image_height, image_width = image.shape[:2]
        height = self._height or math.ceil(image_height / self._multiple) * self._multiple
        width = self._width or math.ceil(image_width / self._multiple) * self._multiple
        if self._config.resize is Resize.NONE:
            for actual, fixed in ((image_height, self._height), (image_width, self._width)):
                if fixed not in {None, actual}:
                    raise InvalidArgumentError(
                        f"image is {image_width}x{image_height} pixels, input '{self._name}' takes "
                        f"{self._width or 'any'}x{self._height or 'any'} and naiad.input.resize is 'none'"
                    )
        return height, width

    def _suffices(self, sides: tuple[int, int], factor: int) -> bool:
        """Whether one `factor`-th of a picture's width and height is no less than it has within the input."""
        assert self._width is not None
        assert self._height is not None
        width, height = fitted(self._config.resize, sides, (self._width, self._height))
        return sides[0] // factor >= width and sides[1] // factor >= height

    def _fill(self, image: Pixels, placement: Placement, slot: Array) -> None:
        """Write the part of the picture to its place in the slot and the border around it."""
        source, target, _ = placement
        part, size = image[source.rows, source.columns], (target.width, target.height)
        planes = slot if self._config.layout is Layout.NCHW else np.moveaxis(slot, 2, 0)
        self._fill_border(planes, target)
        if self._as_is:  # bytes in the picture's own order: OpenCV scales straight into the slot
            scaled_to(part, size, slot[target.rows, target.columns])
            return
        scaled = scaled_to(part, size)
        if self._channels == 1:
            self._convert_gray(scaled, planes[0, target.rows, target.columns])
        elif self._config.layout is Layout.NHWC:
            self._convert_pixels(scaled, slot[target.rows, target.columns])
        else:
            for plane, table, channel in zip(
                planes, self._tables, _SOURCE_CHANNELS[self._config.color], strict=True
            ):
                self._convert_channel(scaled, channel, table, plane[target.rows, target.columns])

    def _fill_border(self, planes: Array, target: Area) -> None:
        for plane, table in zip(planes, self._tables, strict=True):
            value = table[self._config.pad]
            plane[: target.top] = value
            plane[target.rows, : target.left] = value
            plane[target.rows, target.left + target.width :] = value
            plane[target.top + target.height :] = value

    def _convert_gray(self, pixels: Pixels, target: Array) -> None:
        if self._bytes:
            cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY, dst=target)
        else:
            self._convert(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), self._tables[0], target)

    def _convert_pixels(self, pixels: Pixels, target: Array) -> None:
        if self._bytes:  # and RGB, else they were taken as they are
            cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=target)
            return
        if self._config.color is not ColorOrder.BGR:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        self._convert(pixels, np.ascontiguousarray(self._tables.T), target)

    def _convert_channel(self, pixels: Pixels, channel: int, table: Array, target: Array) -> None:
        if self._bytes:
            cv2.extractChannel(pixels, channel, dst=target)
        else:
            self._convert(cv2.extractChannel(pixels, channel), table, target)

    def _convert(self, pixels: Pixels, table: Array, target: Array) -> None:
        """Look each byte up in `table` (`[256]` or `[256, C]`) and store it in `target`."""
        if self._datatype is DataType.FP16:
            # The table only moves bits, and OpenCV's moves 16-bit integers but not half floats.
            table, target = table.view(np.uint16), target.view(np.uint16)
        cv2.LUT(pixels, table[np.newaxis], dst=target)


def _check_datatype(config: InputConfig, tensor: TensorConfig) -> None:
    if tensor.datatype not in _DATATYPES:
        names = ", ".join(datatype.config_name for datatype in _DATATYPES)
        raise InvalidArgumentError(
            f"input '{tensor.name}' is {tensor.datatype.config_name}, pictures can be written as {names}"
        )
    plain = not any(config.mean) and all(scale == 1 for scale in config.scale)
    if tensor.datatype is DataType.UINT8 and not plain:
        raise InvalidArgumentError(
            f"input '{tensor.name}' is TYPE_UINT8 and takes pixels as they are: "
            f"naiad.input.mean {list(config.mean)} and naiad.input.scale {list(config.scale)} must be 0 and 1"
        )


def _split_dims(config: InputConfig, tensor: TensorConfig) -> tuple[tuple[int, ...], tuple[int, int, int]]:
    """The leading 1 if the dims have one, then channels, height and width."""
    dims = tensor.dims
    leading: tuple[int, ...] = ()
    if len(dims) == 4 and dims[0] in {1, -1}:
        leading, dims = (1,), dims[1:]
    if len(dims) != 3:
        raise InvalidArgumentError(
            f"input '{tensor.name}' has dims {list(tensor.dims)}, a picture needs three: "
            "channels, height and width, or height, width and channels"
        )
    if config.layout is Layout.NCHW:
        return leading, (dims[0], dims[1], dims[2])
    return leading, (dims[2], dims[0], dims[1])


def _side(
    config: InputConfig, tensor: TensorConfig, side: str, wanted: int | None, actual: int
) -> int | None:
    """One side of the input in pixels; None where any size goes."""
    if wanted is not None and wanted < 1:
        raise InvalidArgumentError(f"naiad.input.size has a {side} of {wanted}, it must be at least 1")
    if actual == -1:
        if wanted is None and config.resize is not Resize.NONE:
            raise InvalidArgumentError(
                f"naiad.input.resize '{config.resize.value}' needs naiad.input.size: "
                f"the {side} of input '{tensor.name}' is not fixed (dims {list(tensor.dims)})"
            )
        return wanted
    if wanted not in {None, actual}:
        raise InvalidArgumentError(
            f"naiad.input.size has a {side} of {wanted}, input '{tensor.name}' takes {actual} "
            f"(dims {list(tensor.dims)})"
        )
    return actual


def _value_tables(config: InputConfig, channels: int, datatype: DataType) -> Array:
    """What each of the 256 pixel values becomes, `[channels, 256]`, in the tensor's own type."""
    for key, values in (("mean", config.mean), ("scale", config.scale)):
        if len(values) not in {1, channels} or not all(math.isfinite(value) for value in values):
            raise InvalidArgumentError(
                f"naiad.input.{key} is {list(values)}, it must be one finite number or {channels}"
            )
    mean, scale = np.reshape(config.mean, (-1, 1)), np.reshape(config.scale, (-1, 1))
    rows = np.broadcast_to((np.arange(256) - mean) * scale, (channels, 256))
    tables: Array = np.ascontiguousarray(rows).astype(datatype.numpy)
    return tables
