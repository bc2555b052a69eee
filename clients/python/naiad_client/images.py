"""Turns what a caller holds (a file's bytes, a path, an array) into the picture of a request."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

if TYPE_CHECKING:
    import numpy.typing as npt

ImageLike: TypeAlias = "bytes | bytearray | memoryview | str | os.PathLike[str] | npt.NDArray[np.uint8]"
"""An encoded file's bytes, the path of such a file, or pixels: uint8 [H,W,3], [H,W,1] or [H,W]."""

Color: TypeAlias = Literal["bgr", "rgb"]
"""The channel order of an array: OpenCV's is "bgr", that of Pillow and imageio "rgb"."""

_FORMATS: dict[Color, pb.PixelFormat.ValueType] = {
    "bgr": pb.PIXEL_FORMAT_BGR,
    "rgb": pb.PIXEL_FORMAT_RGB,
}
_COLOR_CHANNELS = 3
_GRAY_CHANNELS = 1


def write_image(image: ImageLike, color: Color | None, out: pb.Image) -> None:
    """Put a picture into a request that is being built.

    The message is filled in place: handing a finished submessage to a constructor copies its bytes again.

    Args:
        image: see ImageLike.
        color: the channel order of a colour array; nothing else needs it.
        out: the empty `image` field of a request.

    Raises:
        TypeError: `image` is of another kind, or an array that is not uint8.
        ValueError: the array has another shape or no pixels, a colour array comes without `color`, or the
            bytes are empty.
        OSError: the file cannot be read.
    """
    if isinstance(image, np.ndarray):
        _write_pixels(image, color, out.raw)
        return
    out.encoded = _encoded(image)
    if not out.encoded:
        raise ValueError("image is empty: 0 bytes")


def is_path(image: object) -> bool:
    """Whether building the request reads a file."""
    return isinstance(image, str | os.PathLike)


def _encoded(image: object) -> bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        return Path(image).read_bytes()
    raise TypeError(
        f"image is a {type(image).__name__}: pass the bytes of a JPEG, PNG, WebP or BMP file, its path, or a "
        "uint8 array [H,W,3] or [H,W]"
    )


def _write_pixels(pixels: npt.NDArray[np.uint8], color: Color | None, out: pb.RawImage) -> None:
    if pixels.dtype != np.uint8:
        raise TypeError(f"image array has dtype {pixels.dtype}: uint8 is wanted, 0 to 255 a channel")
    out.format = _format(pixels.shape, color)
    if pixels.size == 0:
        raise ValueError(f"image array of shape {list(pixels.shape)} has no pixels")
    out.height, out.width = pixels.shape[:2]
    # protobuf takes `bytes` alone, so this one copy is due in any case; a view with a row stride (a crop,
    # padded rows) loses its gaps on the way at no cost, and pixels outside of a crop are never sent.
    out.data = pixels.tobytes()


def _format(shape: tuple[int, ...], color: Color | None) -> pb.PixelFormat.ValueType:
    """The pixel format of an array of that shape."""
    channels = shape[2] if len(shape) == 3 else _GRAY_CHANNELS
    if len(shape) not in {2, 3} or channels not in {_GRAY_CHANNELS, _COLOR_CHANNELS}:
        raise ValueError(f"image array has shape {list(shape)}: [H,W,3] or [H,W] is wanted")
    if channels == _GRAY_CHANNELS:
        return pb.PIXEL_FORMAT_GRAY
    if color is None:
        raise ValueError("a colour array needs color='bgr' (OpenCV) or color='rgb' (Pillow, imageio)")
    if color not in _FORMATS:
        raise ValueError(f"color is {color!r}: 'bgr' or 'rgb' is wanted")
    return _FORMATS[color]
