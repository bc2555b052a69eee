"""Turns what a caller holds (a file's bytes, a path, an array, a raw frame) into the picture of a request."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

if TYPE_CHECKING:
    import numpy.typing as npt

ImageLike: TypeAlias = (
    "bytes | bytearray | memoryview | str | os.PathLike[str] | npt.NDArray[np.uint8] | RawFrame"
)
"""An encoded file's bytes, such a file's path, pixels (uint8 [H,W,3], [H,W,1] or [H,W]), or a raw frame."""

Color: TypeAlias = Literal["bgr", "rgb"]
"""The channel order of an array: OpenCV's is "bgr", that of Pillow and imageio "rgb"."""

PixelFormat: TypeAlias = Literal["bgr", "rgb", "gray", "nv12", "i420"]
"""How the pixels of a raw frame lie in memory."""

Encoding: TypeAlias = Literal["jpeg"]
"""What arrays can be encoded as before they are sent."""

DEFAULT_QUALITY = 90

_FORMATS: dict[PixelFormat, pb.PixelFormat.ValueType] = {
    "bgr": pb.PIXEL_FORMAT_BGR,
    "rgb": pb.PIXEL_FORMAT_RGB,
    "gray": pb.PIXEL_FORMAT_GRAY,
    "nv12": pb.PIXEL_FORMAT_NV12,
    "i420": pb.PIXEL_FORMAT_I420,
}
_PLANAR = frozenset({"nv12", "i420"})
_COLOR_CHANNELS = 3
_GRAY_CHANNELS = 1
_QUALITIES = range(1, 101)


@dataclass(frozen=True, slots=True, eq=False)
class RawFrame:
    """Pixels as a decoder or a camera gives them.

    Attributes:
        data: the rows, planes one after the other; any contiguous buffer, such as a uint8 array.
        format: how they lie in memory.
        width: pixels in a row.
        height: rows.
        stride: bytes from one row's start to the next one's; 0 for rows without padding. NV12: of both
            planes.
            I420: of the luminance, even; rows of colour have half of it.
    """

    data: bytes | bytearray | memoryview | npt.NDArray[np.uint8]
    format: PixelFormat
    width: int
    height: int
    stride: int = 0

    @classmethod
    def planar(cls, planes: npt.NDArray[np.uint8], pixel_format: Literal["nv12", "i420"]) -> RawFrame:
        """An NV12 or I420 frame of one array [H*3/2,W], as OpenCV, PyAV and GStreamer give it.

        Raises:
            ValueError: the array has another shape, or an odd side.
        """
        rows = planes.shape[0] if planes.ndim == 2 else 0
        if rows % 3 or not rows or planes.shape[1] % 2:
            raise ValueError(
                f"an array of shape {list(planes.shape)} is no {pixel_format} frame: [H*3/2,W] is wanted"
            )
        return cls(planes, pixel_format, planes.shape[1], rows // 3 * 2)


@dataclass(frozen=True, slots=True)
class Pictures:
    """How a client's pictures are put into requests.

    Attributes:
        color: the channel order of a colour array; nothing else needs it.
        encode: "jpeg" encodes arrays before they are sent, which needs OpenCV; None sends their pixels.
        quality: of JPEG, 1 to 100.
    """

    color: Color | None = None
    encode: Encoding | None = None
    quality: int = DEFAULT_QUALITY

    def __post_init__(self) -> None:
        if self.encode not in {None, "jpeg"}:
            raise ValueError(f"encode is {self.encode!r}: 'jpeg' is wanted, or None for plain pixels")
        if self.quality not in _QUALITIES:
            raise ValueError(f"quality is {self.quality}: 1 to 100 is wanted")

    def write(self, image: ImageLike, out: pb.Image) -> None:
        """Put a picture into a request that is being built; errors as in `write_image`.

        Raises:
            ModuleNotFoundError: arrays are to be encoded, and OpenCV is not installed.
        """
        if self.encode is not None and isinstance(image, np.ndarray):
            out.encoded = self._jpeg(image)
        else:
            write_image(image, self.color, out)

    def _jpeg(self, pixels: npt.NDArray[np.uint8]) -> bytes:
        _check_pixels(pixels, self.color)
        cv2: Any = importlib.import_module("cv2")  # by name: the client needs it for this alone
        if self.color == "rgb" and pixels.ndim == 3 and pixels.shape[2] == _COLOR_CHANNELS:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        if not done:
            raise ValueError(f"OpenCV cannot encode an array of shape {list(pixels.shape)} as JPEG")
        encoded: bytes = data.tobytes()
        return encoded


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
    if isinstance(image, RawFrame):
        _write_raw(image, out.raw)
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
        "uint8 array [H,W,3] or [H,W], or a RawFrame"
    )


def _write_raw(frame: RawFrame, out: pb.RawImage) -> None:
    if frame.format not in _FORMATS:
        raise ValueError(f"format is {frame.format!r}: one of {', '.join(_FORMATS)} is wanted")
    if min(frame.width, frame.height) < 1 or frame.stride < 0:
        raise ValueError(f"a frame of {frame.width}x{frame.height} with stride {frame.stride} has no pixels")
    if frame.format in _PLANAR and (frame.width % 2 or frame.height % 2):
        raise ValueError(f"{frame.format} of {frame.width}x{frame.height}: both sides must be even")
    out.format = _FORMATS[frame.format]
    out.width, out.height, out.stride = frame.width, frame.height, frame.stride
    out.data = frame.data if isinstance(frame.data, bytes) else np.asarray(frame.data).tobytes()


def _write_pixels(pixels: npt.NDArray[np.uint8], color: Color | None, out: pb.RawImage) -> None:
    out.format = _check_pixels(pixels, color)
    out.height, out.width = pixels.shape[:2]
    # protobuf takes `bytes` alone, so this one copy is due in any case; a view with a row stride (a crop,
    # padded rows) loses its gaps on the way at no cost, and pixels outside of a crop are never sent.
    out.data = pixels.tobytes()


def _check_pixels(pixels: npt.NDArray[np.uint8], color: Color | None) -> pb.PixelFormat.ValueType:
    """The pixel format of an array; errors as in `write_image`."""
    if pixels.dtype != np.uint8:
        raise TypeError(f"image array has dtype {pixels.dtype}: uint8 is wanted, 0 to 255 a channel")
    pixel_format = _format(pixels.shape, color)
    if pixels.size == 0:
        raise ValueError(f"image array of shape {list(pixels.shape)} has no pixels")
    return pixel_format


def _format(shape: tuple[int, ...], color: Color | None) -> pb.PixelFormat.ValueType:
    """The pixel format of an array of that shape."""
    channels = shape[2] if len(shape) == 3 else _GRAY_CHANNELS
    if len(shape) not in {2, 3} or channels not in {_GRAY_CHANNELS, _COLOR_CHANNELS}:
        raise ValueError(f"image array has shape {list(shape)}: [H,W,3] or [H,W] is wanted")
    if channels == _GRAY_CHANNELS:
        return pb.PIXEL_FORMAT_GRAY
    if color is None:
        raise ValueError("a colour array needs color='bgr' (OpenCV) or color='rgb' (Pillow, imageio)")
    if color not in {"bgr", "rgb"}:
        raise ValueError(f"color is {color!r}: 'bgr' or 'rgb' is wanted")
    return _FORMATS[color]
