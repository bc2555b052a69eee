"""Tensors to a serialized `ModelInferRequest`, and a serialized `ModelInferResponse` to tensors.

Both are put together and taken apart around protobuf, which would copy each tensor three times. The rest of
them is one small message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from naiad.core.datatypes import DataType
from naiad.core.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from naiad.core.tensors import Array, TensorSpec

    Buffer = bytes | memoryview

_REQUEST_CONTENT_TAG = bytes([7 << 3 | 2])
_RESPONSE_CONTENT = 6
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

REGION = "shared_memory_region"
BYTE_SIZE = "shared_memory_byte_size"
OFFSET = "shared_memory_offset"


class Place(NamedTuple):
    """Where a tensor lies in a region of shared memory, in bytes."""

    region: str
    offset: int
    byte_size: int


def infer_head(
    model: str, version: str, inputs: Iterable[tuple[str, DataType, tuple[int, ...]]], outputs: Iterable[str]
) -> Any:
    """A `ModelInferRequest` without contents; empty `version` lets the server choose."""
    head = pb.ModelInferRequest(model_name=model, model_version=version)
    for name, datatype, shape in inputs:
        head.inputs.add(name=name, datatype=datatype.value, shape=shape)
    for name in outputs:
        head.outputs.add(name=name)
    return head


def set_place(tensor: Any, place: Place) -> None:
    """Let an input or output of a request lie in shared memory."""
    tensor.parameters[REGION].string_param = place.region
    tensor.parameters[BYTE_SIZE].int64_param = place.byte_size
    if place.offset:
        tensor.parameters[OFFSET].int64_param = place.offset


def to_wire(head: Any, contents: Iterable[Buffer]) -> bytes:
    """The serialized request: `head`, then the contents of the inputs that are not in shared memory."""
    chunks: list[Buffer] = [head.SerializeToString()]
    for content in contents:
        size = content.nbytes if isinstance(content, memoryview) else len(content)
        chunks += (_REQUEST_CONTENT_TAG, _varint(size), content)
    return b"".join(chunks)


def raw_content(array: Array, datatype: DataType) -> Buffer:
    """An array's bytes as the protocol wants them, a view where they lie so already."""
    if datatype is DataType.BYTES:
        serialized = serialize_byte_tensor(np.ascontiguousarray(array))
        return bytes(serialized.item()) if serialized.size else b""
    contiguous = np.ascontiguousarray(array)
    return contiguous.reshape(-1).view(np.uint8).data if contiguous.size else b""


class Reply(NamedTuple):
    """A `ModelInferResponse` without its contents, and the contents as views of what was received."""

    head: Any
    contents: Sequence[memoryview]

    @classmethod
    def of(cls, data: bytes) -> Reply:
        """Take a serialized response apart.

        Raises:
            InternalError: it is none.
        """
        rest: list[memoryview] = []
        contents: list[memoryview] = []
        try:
            for number, field, content in _fields(memoryview(data)):
                if number == _RESPONSE_CONTENT:
                    contents.append(content)
                else:
                    rest.append(field)
            head = pb.ModelInferResponse.FromString(b"".join(rest))
        except (IndexError, ValueError, DecodeError) as error:
            raise InternalError(
                f"the answer of {len(data)} bytes is no ModelInferResponse: {error}"
            ) from None
        return cls(head, contents)

    def tensors(self, specs: Mapping[str, TensorSpec], wanted: Sequence[str]) -> dict[str, Array]:
        """The outputs whose contents were sent, as views.

        Args:
            specs: the model's outputs by name.
            wanted: the names that must be there.

        Raises:
            InternalError: one is missing, or is not what the model's metadata said.
        """
        sent = {
            output.name: (output, content)
            for output, content in zip(self.head.outputs, self.contents, strict=False)
        }
        tensors = {}
        for name in wanted:
            if name not in sent:
                raise InternalError(f"the answer has no contents of output '{name}'")
            output, content = sent[name]
            tensors[name] = tensor_of(specs[name], tuple(output.shape), output.datatype, content)
        return tensors


def tensor_of(spec: TensorSpec, shape: tuple[int, ...], datatype: str, content: memoryview) -> Array:
    """An output's bytes as an array.

    Raises:
        InternalError: datatype, shape and bytes do not go together.
    """
    if datatype != spec.datatype.value:
        raise InternalError(f"output '{spec.name}' came as {datatype}, the model says {spec.datatype.value}")
    try:
        if spec.datatype is DataType.BYTES:
            texts: Array = deserialize_bytes_tensor(bytes(content))
            return texts.reshape(shape)
        return np.frombuffer(content, spec.datatype.numpy).reshape(shape)
    except ValueError:
        raise InternalError(
            f"output '{spec.name}' of shape {list(shape)} came with {len(content)} bytes"
        ) from None


def _fields(data: memoryview) -> Iterable[tuple[int, memoryview, memoryview]]:
    """Number, whole field and content of each field of a message."""
    at = 0
    while at < len(data):
        start = at
        tag, at = _read_varint(data, at)
        kind = tag & 7
        if kind == _BYTES:
            size, at = _read_varint(data, at)
        elif kind == _VARINT:
            _, after = _read_varint(data, at)
            size = after - at
        elif kind in {_FIXED64, _FIXED32}:
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(data):
            raise ValueError("it ends within a field")
        yield tag >> 3, data[start : at + size], data[at : at + size]
        at += size


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
