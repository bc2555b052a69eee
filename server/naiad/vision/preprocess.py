"""Pixels to input tensors: resizes a picture and writes it straight into its slot of the batch. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from naiad.config.vision_config import ColorOrder, Layout, Resize
from naiad.core.datatypes import DataType
from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.vision.transform import Transform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.config.model_config import TensorConfig
    from naiad.config.vision_config import InputConfig
    from naiad.core.tensors import Array
    from naiad.vision.arrays import Pixels

_DATATYPES = (DataType.UINT8, DataType.FP16, DataType.FP32)
_SOURCE_CHANNELS = {ColorOrder.BGR: (0, 1, 2), ColorOrder.RGB: (2, 1, 0)}
_ONE_SCALE = 0.01
"""Letterbox rounds one side to whole pixels, so its two scales differ by a trifle. Up to this share the
vertical one stands for both, as in the detectors' own projects; a picture so thin that rounding changes its
shape by more keeps both."""


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
            multiple: with `Resize.NONE` and free dims, sides are padded with black to a multiple of this.

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
        height, width = self._input_size(image)
        if self._config.layout is Layout.NCHW:
            return (*self._leading, self._channels, height, width)
        return (*self._leading, height, width, self._channels)

    def write(self, image: Pixels, out: Array) -> Transform:
        """Resize `image` and write it, as the model wants it, over everything in `out`.

        Args:
            image: uint8 `[H, W, 3]`, BGR.
            out: the slot, of `shape_for(image)` and `dtype`; whatever it holds is overwritten.

        Returns:
            The way back from the input's pixels to the picture's.

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
        height, width = self._input_size(image)
        fitted = self._resized(image, height, width)
        self._fill(fitted, out[0] if self._leading else out)
        image_height, image_width = image.shape[:2]
        scale_x, scale_y = fitted.shape[1] / image_width, fitted.shape[0] / image_height
        if self._config.resize is Resize.LETTERBOX and abs(scale_x / scale_y - 1) <= _ONE_SCALE:
            scale_x = scale_y
        return Transform(
            scale_x=scale_x,
            scale_y=scale_y,
            offset_x=0.0,
            offset_y=0.0,
            image_width=image_width,
            image_height=image_height,
            input_width=width,
            input_height=height,
        )

    def __call__(self, image: Pixels) -> tuple[Array, Transform]:
        """A new tensor of `shape_for(image)` with `image` in it, and the way back; errors as `write`."""
        out: Array = np.empty(self.shape_for(image), self.dtype)
        return out, self.write(image, out)

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

    def _resized(self, image: Pixels, height: int, width: int) -> Pixels:
        """The picture at the size it has within the input of `height` x `width`."""
        image_height, image_width = image.shape[:2]
        if self._config.resize is Resize.NONE:
            return image
        if self._config.resize is Resize.LETTERBOX:
            # Whole numbers: the long side fits exactly and the other is rounded down, but never to nothing.
            if image_height * width > image_width * height:
                width = max(1, height * image_width // image_height)
            else:
                height = max(1, width * image_height // image_width)
        if (image_height, image_width) == (height, width):
            return image
        resized: Pixels = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        return resized

    def _fill(self, fitted: Pixels, slot: Array) -> None:
        """Write the fitted picture into the top left corner of the slot and black around it."""
        planes = slot if self._config.layout is Layout.NCHW else np.moveaxis(slot, 2, 0)
        height, width = fitted.shape[:2]
        for plane, table in zip(planes, self._tables, strict=True):
            plane[:height, width:] = table[0]
            plane[height:] = table[0]
        if self._channels == 1:
            self._convert(
                cv2.cvtColor(fitted, cv2.COLOR_BGR2GRAY), self._tables[0], planes[0, :height, :width]
            )
        elif self._config.layout is Layout.NHWC:
            ordered = (
                fitted if self._config.color is ColorOrder.BGR else cv2.cvtColor(fitted, cv2.COLOR_BGR2RGB)
            )
            self._convert(ordered, np.ascontiguousarray(self._tables.T), slot[:height, :width])
        else:
            for plane, table, channel in zip(
                planes, self._tables, _SOURCE_CHANNELS[self._config.color], strict=True
            ):
                self._convert(cv2.extractChannel(fitted, channel), table, plane[:height, :width])

    def _convert(self, pixels: Pixels, table: Array, target: Array) -> None:
        """Look each byte up in `table` (`[256]` or `[256, C]`) and store it in `target`."""
        if self._datatype is DataType.UINT8:
            np.copyto(target, pixels)
            return
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
