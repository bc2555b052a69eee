"""Classification: an output answered as its highest elements, `value:index` or `value:index:label`. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from tritonclient.grpc.service_pb2 import InferParameter

    from naiad.core.tensors import Array

    Indices = npt.NDArray[np.intp]

MAX_ELEMENTS = 1_000_000
"""Elements of a batch item that are ranked, as in Triton."""

_UNSUPPORTED = (DataType.FP16, DataType.BF16, DataType.BOOL, DataType.BYTES)
# BF16 has no numpy dtype of its own: only `datatype` tells it from UINT16.
_BY_NUMPY = {datatype.numpy: datatype for datatype in DataType if datatype is not DataType.BF16}


def parse_classification(parameter: InferParameter, output: str) -> int:
    """How many classes the `classification` parameter of an output asks for, at least 1.

    Triton's texts do not name the output, and so neither do these.

    Args:
        parameter: the parameter.
        output: the output's name.

    Raises:
        InvalidArgumentError: it has the wrong type, or is below 1.
    """
    del output
    if parameter.WhichOneof("parameter_choice") != "int64_param":
        raise InvalidArgumentError("invalid value type for 'classification' parameter, expected int64_param")
    count: int = parameter.int64_param
    if count < 1:
        raise InvalidArgumentError("invalid value for 'classification' parameter, expected >= 0")
    return count


def classify(
    array: Array, k: int, *, batched: bool, labels: Sequence[str], datatype: DataType | None = None
) -> npt.NDArray[np.object_]:
    """The `k` highest elements of each batch item, or of the whole array when it is not batched.

    Ties keep the order of their indices; NaN ranks below every number. Floats have six decimals. An index
    without a label, or with an empty one, has none in its text.

    Args:
        array: the output, of any integer type, FP32 or FP64.
        k: how many, at least 1; fewer are given where an item has fewer elements.
        batched: whether the first dimension is the batch.
        labels: the label of each index of an item.
        datatype: the output's datatype where numpy cannot tell it, which is BF16.

    Returns:
        Texts as `bytes`, shape `[batch, min(k, elements)]` or `[min(k, elements)]`.

    Raises:
        InvalidArgumentError: the datatype cannot be ranked, or an item has too many elements.
    """
    datatype = datatype or _BY_NUMPY[array.dtype]
    if datatype in _UNSUPPORTED:
        raise InvalidArgumentError(
            f"class result not available for output due to unsupported type '{datatype.value}'"
        )
    rows, elements = (array.shape[0], math.prod(array.shape[1:])) if batched else (1, array.size)
    if elements > MAX_ELEMENTS:
        raise InvalidArgumentError(
            f"classification output tensor too large: an item has {elements} elements and the maximum is "
            f"{MAX_ELEMENTS}"
        )
    count = min(k, elements)
    template = b"%f:%d" if array.dtype.kind == "f" else b"%d:%d"
    texts: list[bytes] = []
    for row in array.reshape(rows, elements) if count else ():
        best = _highest(row, count)
        texts += _texts(template, row[best], best, labels)
    result = np.empty(rows * count, dtype=np.object_)
    result[:] = texts
    return result.reshape((rows, count) if batched else (count,))


def _highest(row: Array, count: int) -> Indices:
    """The indices of the `count` highest elements, highest first."""
    # Ascending order of the key is descending order of the values, NaN last. Integers are complemented
    # because negation overflows at the ends of their range.
    key: Array = np.negative(row) if row.dtype.kind == "f" else np.invert(row)
    if count < row.size:
        bound = np.partition(key, count - 1)[count - 1]
        # Whatever is not above the bound, not just `count` elements: ties must be settled by index.
        candidates = np.flatnonzero(~(key > bound))
        return candidates[np.argsort(key[candidates], kind="stable")[:count]]
    return np.argsort(key, kind="stable")


def _texts(template: bytes, values: Array, indices: Indices, labels: Sequence[str]) -> list[bytes]:
    labelled = len(labels)
    texts: list[bytes] = []
    for value, index in zip(values.tolist(), indices.tolist(), strict=True):
        text = template % (value, index)
        label = labels[index] if index < labelled else ""
        texts.append(text + b":" + label.encode() if label else text)
    return texts
