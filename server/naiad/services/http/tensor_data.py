"""The `data` of a JSON tensor: numbers to raw bytes, strings to the elements of a BYTES tensor."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.services.http.json_text import wrong_type

if TYPE_CHECKING:
    from collections.abc import Iterable

INT64_MAX = 2**63 - 1
MAX_RANK = 64
"""The most dimensions a tensor may have here, which is numpy's limit."""

_SIGNED = (DataType.INT8, DataType.INT16, DataType.INT32, DataType.INT64)
_FLOATS = (DataType.FP32, DataType.FP64)


def element_count(shape: list[int], name: str) -> int:
    """The elements of a shape.

    Raises:
        InvalidArgumentError: more than a signed 64-bit count holds, or too many dimensions.
    """
    if len(shape) > MAX_RANK:
        raise InvalidArgumentError(
            f"invalid shape for input '{name}': {len(shape)} dimensions, more than the {MAX_RANK} served"
        )
    count = 0 if 0 in shape else 1
    for dim in shape:
        count *= dim
        if count > INT64_MAX:
            raise InvalidArgumentError(
                f"invalid shape for input '{name}': shape [{','.join(map(str, shape))}] causes total element "
                f"count to exceed maximum size of {INT64_MAX}"
            )
    return count


def json_tensor(
    pieces: Iterable[list[Any]], wire_name: str, count: int, *, name: str, max_bytes: int
) -> bytes | memoryview | list[bytes]:
    """What a JSON tensor holds: little-endian bytes in row-major order, or the elements of a BYTES tensor.

    `pieces` are lists, flat or nested in whatever way, that follow each other.

    Raises:
        InvalidArgumentError: values of another type than `wire_name`, more or fewer than `count`, or more
            than `max_bytes` bytes.
    """
    datatype = DataType.from_wire_name(wire_name)
    if datatype is None:
        raise InvalidArgumentError(f"invalid datatype for input {name}")
    if datatype in (DataType.FP16, DataType.BF16):
        raise InvalidArgumentError(
            f"receiving {wire_name} data via JSON is not supported. Please use the binary data format for "
            f"input {name}"
        )
    if count == 0:
        return b""
    if datatype is DataType.BYTES:
        return _elements(pieces, name, max_bytes)
    _check_size(count, datatype, name, max_bytes)
    return _numbers(pieces, datatype, count)


def _check_size(count: int, datatype: DataType, name: str, max_bytes: int) -> None:
    size = count * datatype.itemsize
    if size > INT64_MAX:
        raise InvalidArgumentError(
            f"byte size overflow for input '{name}': element count ({count}) * data type size "
            f"({datatype.itemsize}) exceeds maximum allowed size ({INT64_MAX})"
        )
    if size > max_bytes:
        raise _too_large(name, size, max_bytes)


def _too_large(name: str, size: int, max_bytes: int) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"JSON input '{name}' has a byte_size ({size} bytes) that exceeds the maximum allowed value of "
        f"{max_bytes} bytes. Use --http-max-input-size to increase the limit."
    )


def _numbers(pieces: Iterable[list[Any]], datatype: DataType, count: int) -> memoryview:
    array = np.empty(count, dtype=datatype.numpy)
    filled = 0
    for piece in pieces:
        values = _flat(piece)
        if filled + len(values) > count:
            raise InvalidArgumentError(
                "Unable to parse 'data': Shape does not match true shape of 'data' field"
            )
        array[filled : filled + len(values)] = _converted(values, datatype)
        filled += len(values)
    if filled < count:
        raise InvalidArgumentError("Failed to parse 'data' field: shape does not match true shape")
    return array.view(np.uint8).data


def _converted(values: list[Any], datatype: DataType) -> np.ndarray[Any, Any]:
    allowed, word = _accepted(datatype)
    if not set(map(type, values)) <= allowed:
        raise wrong_type("data", word)
    try:
        # A double that is too large for a float becomes infinite, as it does in C.
        with np.errstate(over="ignore"):
            return np.array(values, dtype=datatype.numpy)
    except OverflowError as error:
        raise InvalidArgumentError(f"Unable to parse 'data' as {datatype.value}: {error}") from None


def _accepted(datatype: DataType) -> tuple[set[type], str]:
    """The Python types of a datatype's JSON values, and what such a value is called."""
    if datatype is DataType.BOOL:
        return {bool}, "boolean"
    if datatype in _FLOATS:
        return {int, float}, "number"
    return {int}, "signed-integer" if datatype in _SIGNED else "unsigned-integer"


def _elements(pieces: Iterable[list[Any]], name: str, max_bytes: int) -> list[bytes]:
    texts = [text for piece in pieces for text in _flat(piece)]
    if not set(map(type, texts)) <= {str}:
        raise InvalidArgumentError(
            "Unable to parse JSON bytes array: attempt to access JSON non-string as string"
        )
    try:
        elements = [text.encode("utf-8") for text in texts]
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"Unable to parse 'data' of input '{name}': {error}") from None
    size = sum(map(len, elements)) + 4 * len(elements)  # each element's length is four bytes
    if size > max_bytes:
        raise _too_large(name, size, max_bytes)
    return elements


def _flat(values: list[Any]) -> list[Any]:
    """The values in row-major order, however they are nested."""
    while list in (kinds := set(map(type, values))):
        rows = values if len(kinds) == 1 else ([row] if type(row) is not list else row for row in values)
        values = list(itertools.chain.from_iterable(rows))
    return values
