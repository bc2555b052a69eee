"""What a trace keeps of a tensor: name, datatype, shape and its first values. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from naiad.core.datatypes import DataType

if TYPE_CHECKING:
    from naiad.core.tensors import Array

MAX_VALUES = 1_024
"""Values of one tensor that a trace keeps."""

MAX_BYTES_VALUE = 256
"""Bytes of one BYTES value that a trace keeps."""

# BF16 travels as uint16: without its datatype it is taken for what it looks like, so UINT16 comes last.
_BY_NUMPY = {datatype.numpy: datatype for datatype in reversed(DataType)}


class TensorRecord(NamedTuple):
    """One tensor of a traced request; `values` is a copy of its first ones, `omitted` counts the others."""

    activity: str
    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Array
    omitted: int

    def data(self) -> str:
        """The values as Triton's trace files have them: joined by commas, BYTES in quotes."""
        if self.values.dtype == np.object_:
            return ",".join(map(_quoted, self.values))
        values = self.values
        if values.dtype == np.bool_:
            values = values.astype(np.uint8)
        elif self.datatype == "BF16":
            values = (values.astype(np.uint32) << 16).view(np.float32)
        return ",".join(values.astype(np.str_).tolist())


def record(activity: str, name: str, array: Array, datatype: DataType | None = None) -> TensorRecord:
    """Take down a tensor; only what is kept is copied, so the request's memory is not held."""
    values = np.asarray(array.flat[:MAX_VALUES])
    if values.dtype == np.object_:
        values = np.array([_bounded(value) for value in values], dtype=np.object_)
    known = datatype or _BY_NUMPY.get(array.dtype)
    return TensorRecord(
        activity,
        name,
        known.value if known else str(array.dtype),
        array.shape,
        values,
        math.prod(array.shape) - values.size,
    )


def _bounded(value: object) -> bytes:
    data = value if isinstance(value, bytes) else str(value).encode()
    return data[:MAX_BYTES_VALUE]


def _quoted(value: bytes) -> str:
    return '"' + value.decode("utf-8", errors="replace").replace('"', '""') + '"'
