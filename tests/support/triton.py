"""Stock tritonclient inputs, made short."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tritonclient.grpc as triton
from tritonclient.utils import np_to_triton_dtype

if TYPE_CHECKING:
    import numpy as np


def infer_input(name: str, array: np.ndarray, datatype: str | None = None) -> triton.InferInput:
    """One input of a stock client; the datatype is read off the array unless given."""
    tensor = triton.InferInput(name, list(array.shape), datatype or np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(array)
    return tensor


def infer_inputs(**arrays: np.ndarray) -> list[triton.InferInput]:
    """Inputs by name."""
    return [infer_input(name, array) for name, array in arrays.items()]
