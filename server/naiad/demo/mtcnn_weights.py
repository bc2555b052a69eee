"""Reads the trained weights that the PyPI package `mtcnn` 1.0.0 (MIT) carries, without importing it.

The package needs TensorFlow to be imported; its weights are plain float32 arrays in three lz4 files.
Keras keeps convolutions as HWIO; here they become OIHW. Keras flattens as width, height, channel (the
networks permute first); here the first dense layer is rearranged to take NCHW's channel, height, width.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from naiad.core.errors import InternalError, UnavailableError
from naiad.demo.graph import demo_module

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

NETS = ("pnet", "rnet", "onet")


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution (`weight` [out, in, kh, kw]) or dense layer ([in, out]) with `bias` [out].

    `slope` [out] is that of the PReLU behind it, or None.
    """

    weight: Floats
    bias: Floats
    slope: Floats | None = None


@dataclass(frozen=True, slots=True)
class NetWeights:
    """One of the three networks: its hidden layers in order, then its output layers in Keras' order."""

    hidden: tuple[Layer, ...]
    heads: tuple[Layer, ...]


_SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "pnet": ((3, 3, 3, 10), (3, 3, 10, 16), (3, 3, 16, 32), (1, 1, 32, 4), (1, 1, 32, 2)),
    "rnet": ((3, 3, 3, 28), (3, 3, 28, 48), (2, 2, 48, 64), (576, 128), (128, 4), (128, 2)),
    "onet": (
        (3, 3, 3, 32), (3, 3, 32, 64), (3, 3, 64, 64), (2, 2, 64, 128),
        (1152, 256), (256, 4), (256, 10), (256, 2),
    ),
}  # fmt: skip
_HEADS = {"pnet": 2, "rnet": 2, "onet": 3}
_FLAT_SIDE = 3
"""Both R-Net and O-Net flatten a map of 3x3."""


def weights_file(net: str) -> Path:
    """Where the installed package keeps the weights of `net` ("pnet", "rnet" or "onet").

    Raises:
        UnavailableError: the package is not installed, or has no such file.
    """
    try:
        path = Path(str(metadata.distribution("mtcnn").locate_file(f"mtcnn/assets/weights/{net}.lz4")))
    except metadata.PackageNotFoundError as error:
        raise UnavailableError(
            "the demo needs the weights in the package 'mtcnn', which is not installed: "
            "pip install 'naiad[demo]'"
        ) from error
    if not path.is_file():
        raise UnavailableError(
            f"the installed package 'mtcnn' has no file {path}: the demo needs mtcnn==1.0.0"
        )
    return path


def load_weights(net: str) -> NetWeights:
    """The weights of `net` ("pnet", "rnet" or "onet") in ONNX's layout.

    Raises:
        UnavailableError: a package of the extra `demo` is missing.
        InternalError: the file does not hold the arrays that mtcnn 1.0.0 has.
    """
    demo_module("lz4.frame")  # joblib reports a missing lz4 as a plain ValueError
    path = weights_file(net)
    arrays: list[Floats] = demo_module("joblib").load(path)
    return _arrange(net, arrays, path)


def _arrange(net: str, arrays: Sequence[Floats], path: Path) -> NetWeights:
    """Group Keras' flat list: weight, bias and (for hidden layers) slope of each layer in turn."""
    expected = _SHAPES[net]
    hidden_count = len(expected) - _HEADS[net]
    if len(arrays) != 3 * hidden_count + 2 * _HEADS[net]:
        raise InternalError(f"{path} holds {len(arrays)} arrays, not those of mtcnn 1.0.0")
    layers: list[Layer] = []
    position = 0
    for index, shape in enumerate(expected):
        weight, bias = arrays[position], arrays[position + 1]
        if weight.shape != shape or weight.dtype != np.float32:
            raise InternalError(
                f"{path}: layer {index} is {weight.dtype} {weight.shape}, mtcnn 1.0.0 has float32 {shape}"
            )
        slope = arrays[position + 2].reshape(-1) if index < hidden_count else None
        position += 2 if slope is None else 3
        layers.append(Layer(_to_onnx(weight), bias, slope))
    return NetWeights(tuple(layers[:hidden_count]), tuple(layers[hidden_count:]))


def _to_onnx(weight: Floats) -> Floats:
    if weight.ndim == 4:
        return np.ascontiguousarray(weight.transpose(3, 2, 0, 1))
    channels = weight.shape[0] // _FLAT_SIDE**2
    if channels * _FLAT_SIDE**2 != weight.shape[0]:
        return weight
    keras = weight.reshape(_FLAT_SIDE, _FLAT_SIDE, channels, -1)  # width, height, channel, out
    return np.ascontiguousarray(keras.transpose(2, 1, 0, 3).reshape(weight.shape))
