"""The bytes of tensors on the wire: raw and typed contents to arrays, arrays to raw contents."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Protocol

import numpy as np

from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.services.shared_memory.parameters import parse_shm_parameters
from naiad.services.shared_memory.table import Lease

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

    from tritonclient.grpc.service_pb2 import InferTensorContents, ModelInferRequest

    from naiad.core.tensors import Array

INT64_MAX = 2**63 - 1
_LENGTH = struct.Struct("<I")

# Which repeated field carries a datatype's typed contents, and the numpy dtype of its values. FP16 and
# BF16 have none: they travel raw.
_CONTENTS_FIELD: dict[DataType, str] = {
    DataType.BOOL: "bool_contents",
    DataType.INT8: "int_contents",
    DataType.INT16: "int_contents",
    DataType.INT32: "int_contents",
    DataType.INT64: "int64_contents",
    DataType.UINT8: "uint_contents",
    DataType.UINT16: "uint_contents",
    DataType.UINT32: "uint_contents",
    DataType.UINT64: "uint64_contents",
    DataType.FP32: "fp32_contents",
    DataType.FP64: "fp64_contents",
    DataType.BYTES: "bytes_contents",
}
_FIELD_DTYPE = {
    "bool_contents": np.bool_,
    "int_contents": np.int32,
    "int64_contents": np.int64,
    "uint_contents": np.uint32,
    "uint64_contents": np.uint64,
    "fp32_contents": np.float32,
    "fp64_contents": np.float64,
}
# The datatype that Triton names when a typed field does not suit a tensor.
_FIELD_DATATYPE = {
    "bool_contents": "BOOL",
    "int_contents": "INT32",
    "int64_contents": "INT64",
    "uint_contents": "UINT32",
    "uint64_contents": "UINT64",
    "fp32_contents": "FP32",
    "fp64_contents": "FP64",
    "bytes_contents": "BYTES",
}


Content = bytes | memoryview | list[bytes]
"""An input's data: its bytes, or the elements of a BYTES tensor one by one."""

BoundContent = Content | Lease
"""An input's data, or where it lies: shared memory is copied when all else about the request is right.

A message of some bytes can name gigabytes, and name them a thousand times.
"""


class SharedMemory(Protocol):
    """Where inputs that lie in shared memory are read from."""

    def lease(self, name: str, offset: int, byte_size: int) -> Lease:
        """That range, in use until it is released; raises NaiadError."""
        ...


def bind_contents(
    request: ModelInferRequest,
    data: Sequence[Content | None] | None,
    shared_memory: SharedMemory,
    leases: ExitStack,
) -> list[BoundContent]:
    """The data of each input, in request order.

    Args:
        request: the message; inputs whose parameters name a region are read from it.
        data: what came beside the message, one entry an input; None when the message carries it itself.
        shared_memory: the registered regions.
        leases: takes the ranges of regions that the answer names.

    Raises:
        InvalidArgumentError: typed and raw contents are mixed, a typed field does not suit its datatype,
            an input has no data, or a range lies outside its region.
        NotFoundError: no such region.
    """
    bound: list[BoundContent] = []
    next_raw = 0
    for index, tensor in enumerate(request.inputs):
        shared = parse_shm_parameters(tensor.parameters, tensor.name) if tensor.parameters else None
        if shared is not None:
            if tensor.HasField("contents") or (data is not None and data[index] is not None):
                raise InvalidArgumentError(
                    f"unexpected 'content' provided when using shared memory for input tensor "
                    f"'{tensor.name}' for model '{request.model_name}'"
                )
            lease = shared_memory.lease(shared.region, shared.offset, shared.byte_size)
            bound.append(leases.enter_context(lease))
        elif data is not None:
            bound.append(_given(data[index], tensor.name, request.model_name))
        elif tensor.HasField("contents"):
            bound.append(_only_typed(request, tensor))
        elif next_raw < len(request.raw_input_contents):
            bound.append(request.raw_input_contents[next_raw])
            next_raw += 1
        else:
            raise _no_data(tensor.name, request.model_name)
    return bound


def _given(content: Content | None, name: str, model: str) -> Content:
    if content is None:
        raise _no_data(name, model)
    return content


def _no_data(name: str, model: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"unable to find data for input tensor '{name}' for model '{model}' in request."
    )


def _only_typed(request: ModelInferRequest, tensor: ModelInferRequest.InferInputTensor) -> Content:
    if request.raw_input_contents:
        raise InvalidArgumentError(
            "contents field must not be specified when using raw_input_contents for "
            f"'{tensor.name}' for model '{request.model_name}'"
        )
    return _typed(tensor.contents, tensor.datatype, tensor.name, request.model_name)


def _typed(contents: InferTensorContents, datatype: str, name: str, model: str) -> bytes | list[bytes]:
    fields = [field for field in _FIELD_DATATYPE if len(getattr(contents, field))]
    known = DataType.from_wire_name(datatype)
    allowed = _CONTENTS_FIELD.get(known) if known else None
    prefix = f"unexpected explicit tensor data for input tensor '{name}' for model '{model}'"
    for field in fields:
        if field != allowed:
            raise InvalidArgumentError(
                f"{prefix}, binary data was already supplied."
                if len(fields) > 1
                else f"{prefix} of type '{_FIELD_DATATYPE[field]}', expected datatype '{datatype}'"
            )
    if allowed is None or known is None or not fields:
        return b""
    if known is DataType.BYTES:
        return list(contents.bytes_contents)
    values: Array = np.array(getattr(contents, allowed), dtype=_FIELD_DTYPE[allowed])
    # Narrower types ride in 32 bits and keep the low bytes, as Triton does it.
    return values.astype(known.numpy, copy=False).tobytes()


def element_count(shape: Sequence[int], name: str) -> int:
    """The product of the dims, checked against the protocol's limit.

    Raises:
        InvalidArgumentError: more elements than a signed 64-bit count holds.
    """
    count = math.prod(shape)
    if count > INT64_MAX:
        raise InvalidArgumentError(f"element count for tensor '{name}' exceeds maximum size of {INT64_MAX}")
    return count


def _check_addressable(shape: Sequence[int], itemsize: int, name: str) -> None:
    """Refuse what numpy refuses: dims beside a 0 that are too large for an array, though it holds nothing."""
    if math.prod(filter(None, shape)) * itemsize > INT64_MAX:
        raise InvalidArgumentError(f"byte size for tensor '{name}' exceeds maximum size of {INT64_MAX}")


def numeric_array(
    data: bytes | memoryview | Lease,
    datatype: DataType,
    shape: tuple[int, ...],
    *,
    name: str,
    model: str,
    prefix: str,
) -> Array:
    """View raw bytes as an array, without copying; what lies in shared memory is copied.

    Raises:
        InvalidArgumentError: the byte count is not what datatype and shape need, or the shared memory has
            become smaller than it was registered.
        InternalError: the shared memory cannot be read.
    """
    # An empty batch is checked as a batch of one, so that no data never passes for a tensor.
    checked = (max(1, shape[0]), *shape[1:]) if shape else shape
    expected = element_count(checked, name) * datatype.itemsize
    if expected > INT64_MAX:
        raise InvalidArgumentError(f"byte size for tensor '{name}' exceeds maximum size of {INT64_MAX}")
    if byte_size(data) != expected:
        raise InvalidArgumentError(
            f"{prefix}input byte size mismatch for input '{name}' for model '{model}'. "
            f"Expected {expected}, got {byte_size(data)}"
        )
    if 0 in shape:
        _check_addressable(shape, datatype.itemsize, name)
        return np.empty(shape, dtype=datatype.numpy)
    raw = data.read() if isinstance(data, Lease) else data
    return np.frombuffer(raw, dtype=datatype.numpy).reshape(shape)


def byte_size(content: bytes | memoryview | Lease) -> int:
    """The bytes of an input's data, wherever they lie."""
    return content.byte_size if isinstance(content, Lease) else len(content)


def bytes_array(data: BoundContent, shape: tuple[int, ...], *, name: str, model: str, prefix: str) -> Array:
    """Take a BYTES tensor apart into an object array of `bytes`.

    Raises:
        InvalidArgumentError: too few or too many elements, or a truncated one, or the shared memory has
            become smaller than it was registered.
        InternalError: the shared memory cannot be read.
    """
    expected = element_count(shape, name)
    _check_addressable(shape, np.dtype(np.object_).itemsize, name)
    if isinstance(data, list):
        elements = data
    else:
        raw = data.read() if isinstance(data, Lease) else data
        elements = _elements(bytes(raw), expected, name=name, model=model, prefix=prefix)
    if len(elements) < expected:
        raise InvalidArgumentError(
            f"{prefix}expected {expected} string elements for inference input '{name}' for model '{model}', "
            f"got {len(elements)}"
        )
    if len(elements) > expected:
        raise InvalidArgumentError(
            f"{prefix}unexpected number of string elements {expected + 1} for inference input '{name}' "
            f"for model '{model}', expecting {expected}"
        )
    array = np.empty(expected, dtype=np.object_)
    array[:] = elements
    return array.reshape(shape)


def _elements(data: bytes, expected: int, *, name: str, model: str, prefix: str) -> list[bytes]:
    """The elements of length-prefixed data. One that is cut short counts, as in Triton, but is never used."""
    elements: list[bytes] = []
    position = cut_short = 0
    while position < len(data) and len(elements) <= expected:
        left = len(data) - position
        if left < _LENGTH.size:
            raise InvalidArgumentError(
                f"{prefix}incomplete string length indicator for inference input '{name}' for model "
                f"'{model}', expecting 4 bytes but only {left} bytes available. "
                "Please make sure the string length indicator is in one buffer."
            )
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size
        elements.append(data[position : position + length])
        position += length
        cut_short = max(0, position - len(data))
    if cut_short and len(elements) == expected:
        raise InvalidArgumentError(
            f"{prefix}incomplete string data for inference input '{name}' for model '{model}', expecting "
            f"string of length {len(elements[-1]) + cut_short} but only {len(elements[-1])} bytes available"
        )
    return elements


def raw_contents(array: Array, datatype: DataType) -> bytes:
    """An output as the wire carries it: row-major, little-endian, BYTES elements length-prefixed."""
    if datatype is DataType.BYTES:
        return b"".join(_LENGTH.pack(len(element)) + element for element in array.reshape(-1).tolist())
    return array.tobytes()


def raw_view(array: Array, datatype: DataType) -> bytes | memoryview:
    """The same without a copy where the array already lies in memory as the wire has it."""
    if datatype is DataType.BYTES or not array.size:
        return raw_contents(array, datatype)
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
