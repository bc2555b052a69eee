"""Further versions of the demo's detector, to try experiments on: the same graph with coarser weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from naiad.core.errors import AlreadyExistsError, InvalidArgumentError
from naiad.demo.graph import demo_module
from naiad.demo.mtcnn import build_mtcnn
from naiad.demo.repository import COARSE

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    import onnx

FEWEST_BITS, MOST_BITS = 2, 16
_WEIGHED = {"Conv", "Gemm"}
"""The operators whose second input are weights."""


def build_version(folder: Path, bits: int) -> Path:
    """Write the detector's version 1 with its weights rounded into a version folder that is not there yet.

    Eight bits find the same faces as the weights as they were trained, four lose most of them.

    Args:
        folder: where `model.onnx` goes; made with what leads to it.
        bits: of each weight, 2 to 16. The graph still computes in FP32, and is as fast as before.

    Returns:
        The ONNX file. It is the same each time.

    Raises:
        InvalidArgumentError: `bits` is out of range, or the folder cannot be written.
        AlreadyExistsError: the folder is there and not empty.
        UnavailableError: a package of the extra `demo` is missing.
    """
    if not FEWEST_BITS <= bits <= MOST_BITS:
        raise InvalidArgumentError(f"bits is {bits}, it must lie between {FEWEST_BITS} and {MOST_BITS}")
    model = build_mtcnn(COARSE)
    round_weights(model, bits)
    path = folder / "model.onnx"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise AlreadyExistsError(f"'{folder}' is not empty: remove it or choose another folder")
        path.write_bytes(model.SerializeToString(deterministic=True))
    except OSError as error:
        raise InvalidArgumentError(f"cannot write '{path}': {error.strerror or error}") from error
    return path


def round_weights(model: onnx.ModelProto, bits: int) -> None:
    """Round the weights of convolutions and dense layers, in place.

    Args:
        model: a graph with FP32 weights.
        bits: each tensor of weights keeps so many steps from its largest to its smallest: 2 ** `bits` - 1.
    """
    helper: Any = demo_module("onnx.numpy_helper")
    weights = {node.input[1] for node in model.graph.node if node.op_type in _WEIGHED}
    for tensor in model.graph.initializer:
        if tensor.name in weights:
            rounded = _rounded(helper.to_array(tensor), bits)
            tensor.CopyFrom(helper.from_array(rounded, tensor.name))


def _rounded(values: npt.NDArray[np.float32], bits: int) -> npt.NDArray[np.float32]:
    """The nearest of the steps, which are even and lie on both sides of 0."""
    step = np.abs(values).max() / np.float32(2 ** (bits - 1) - 1)
    return np.asarray(np.round(values / step) * step, np.float32)
