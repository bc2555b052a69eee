"""Output tensors as numbers that can be compared, whatever they travel as. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from naiad.core.datatypes import DataType
from naiad.core.errors import NaiadError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import Array, Tensors

UNREADABLE = (NaiadError, ArithmeticError, IndexError, TypeError, ValueError, cv2.error)
"""What reading an answer may raise if the answer is not what the model's config announced."""


def datatypes_of(config: ModelConfig) -> dict[str, DataType]:
    """The datatype of each output."""
    return {output.name: output.datatype for output in config.outputs}


def numbers_of(array: Array, datatype: DataType | None) -> Array:
    """The values themselves: BF16, which travels as its bits, becomes float32; all else is as it was."""
    if datatype is DataType.BF16 and array.dtype == np.uint16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def are_finite(outputs: Tensors, names: Iterable[str], config: ModelConfig) -> bool:
    """Whether no number of these outputs is NaN or infinite; those that are not there do not count."""
    datatypes = datatypes_of(config)
    arrays = (numbers_of(outputs[name], datatypes.get(name)) for name in names if name in outputs)
    return all(bool(np.isfinite(array).all()) for array in arrays if array.dtype.kind == "f")


def row_count(config: ModelConfig, inputs: Tensors) -> int:
    """The rows of a request: its batch, or 1 where the model has no batch dimension.

    A batch of one or more that is written in the config's dims counts, too, where pictures are its rows.
    """
    arrays = [array for array in inputs.values() if array.ndim]
    if config.max_batch_size > 0:
        return int(arrays[0].shape[0]) if arrays else 0
    if config.vision is not None:
        picture = inputs.get(config.vision.input.tensor)
        return int(picture.shape[0]) if picture is not None and picture.ndim == _BATCHED_PICTURE else 1
    return 1


_BATCHED_PICTURE = 4
"""Dims of pictures: rows, then channels, height and width in any order."""
