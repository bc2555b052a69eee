"""A face descriptor without weights, and `add_sub`: the demo's two graphs that need nothing but arithmetic.

The descriptor is histograms of oriented gradients (Dalal and Triggs 2005, simplified). Nothing in it is
learned: it shows an embedder's place in the pipeline. Crops that look alike come out alike, whoever is on
them. It does NOT recognise people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from naiad.demo.graph import GraphBuilder

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

SIDE = 112
"""Width and height of an aligned crop."""
DIRECTIONS = 8
CELLS = 8
"""Cells along each side, of 14x14 pixels."""
DIMENSIONS = DIRECTIONS * CELLS * CELLS
_LUMA = (0.299, 0.587, 0.114)
_NOISE = 1e-2
"""Gradients below this, in grey levels a cell on average, are rounding: an even crop gives zeros."""
_FLOOR = 1e-6
"""Least length that is divided by."""


def build_descriptor() -> onnx.ModelProto:
    """Build the graph: `image` UINT8 [N, 112, 112, 3] RGB to `embedding` FP32 [N, 512] of length 1.

    Raises:
        UnavailableError: the package onnx is missing.
    """
    graph = GraphBuilder()
    pixels = graph.input("image", np.uint8, ["N", SIDE, SIDE, 3]).cast(np.float32)
    luma = graph.op("MatMul", pixels, np.array(_LUMA, np.float32).reshape(3, 1)).reshape(0, 1, SIDE, SIDE)
    bordered = graph.op("Pad", luma, np.array([0, 0, 1, 1, 0, 0, 1, 1]), mode="edge")
    gradients = graph.op("Relu", graph.op("Conv", bordered, _gradient_kernels()))
    cell = SIDE // CELLS
    energy = graph.op("AveragePool", gradients, kernel_shape=[cell, cell], strides=[cell, cell])
    # Square roots keep a few strong edges from deciding everything; the mean carries no direction.
    features = graph.op("Flatten", graph.op("Sqrt", graph.op("Relu", energy - _NOISE)))
    features = features - graph.op("ReduceMean", features, axes=[1], keepdims=1)
    length = graph.op("ReduceL2", features, axes=[1], keepdims=1)
    embedding = features / graph.op("Max", length, _FLOOR)
    return graph.model(
        {"embedding": (embedding, np.float32, ["N", DIMENSIONS])},
        doc="Histograms of oriented gradients of an aligned face. Shows the pipeline, recognises nobody.",
    )


def build_add_sub(size: int = 16) -> onnx.ModelProto:
    """Build OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1, all FP32 [N, size]."""
    graph = GraphBuilder()
    left, right = (graph.input(name, np.float32, ["N", size]) for name in ("INPUT0", "INPUT1"))
    shape: list[int | str] = ["N", size]
    outputs = {"OUTPUT0": (left + right, np.float32, shape), "OUTPUT1": (left - right, np.float32, shape)}
    return graph.model(outputs, doc="Sum and difference")


def _gradient_kernels() -> npt.NDArray[np.float32]:
    """[DIRECTIONS, 1, 3, 3]: the central difference along each direction; its positive part is taken."""
    angle = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
    kernels = np.zeros((DIRECTIONS, 1, 3, 3), np.float32)
    kernels[:, 0, 1, 2], kernels[:, 0, 1, 0] = np.cos(angle), -np.cos(angle)
    kernels[:, 0, 2, 1], kernels[:, 0, 0, 1] = np.sin(angle), -np.sin(angle)
    return kernels
