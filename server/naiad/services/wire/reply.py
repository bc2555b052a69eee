"""Serialized `ModelInferResponse`s: what protobuf would write, with each output's bytes copied once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tritonclient.grpc import service_pb2 as pb

from naiad.core.errors import InvalidArgumentError
from naiad.services.contents import raw_view
from naiad.services.wire.scan import varint

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from naiad.core.datatypes import DataType
    from naiad.core.tensors import Array, Parameter
    from naiad.services.answer import InferAnswer

    Buffer = bytes | memoryview

ENVELOPE_BYTES = 128
"""What a stream may add around an answer: its own message, the final-response parameter."""

FINAL_RESPONSE = "triton_final_response"

_CONTENT_TAG = bytes([6 << 3 | 2])
_STREAMED_TAG = bytes([2 << 3 | 2])


def to_wire(answer: InferAnswer, max_bytes: int) -> bytes:
    """The reply: outputs sorted by name, raw contents in the same order, empty for one in shared memory.

    Raises:
        InvalidArgumentError: the reply is larger than a message may be.
    """
    return b"".join(_chunks(answer, max_bytes))


def to_stream_wire(answer: InferAnswer, max_bytes: int) -> bytes:
    """The same as a serialized `ModelStreamInferResponse`, marked as the last one of its request."""
    chunks = _chunks(answer, max_bytes, final=True)
    return b"".join((_STREAMED_TAG, varint(sum(map(_size, chunks))), *chunks))


def _chunks(answer: InferAnswer, max_bytes: int, *, final: bool = False) -> list[Buffer]:
    # Before anything is copied: a sum of what the arrays hold.
    check_size(sum(each.array.nbytes for each in answer.tensors if each.array is not None), max_bytes)
    head = pb.ModelInferResponse(
        model_name=answer.model_name, model_version=answer.model_version, id=answer.id
    )
    if answer.parameters:
        _add_parameters(head, answer.parameters)
    if final:
        head.parameters[FINAL_RESPONSE].bool_param = True
    for tensor in answer.tensors:
        head.outputs.add(name=tensor.name, datatype=tensor.datatype.value, shape=tensor.shape)
    chunks: list[Buffer] = [head.SerializeToString()]
    for tensor in answer.tensors:
        content = b"" if tensor.array is None else raw_view(tensor.array, tensor.datatype)
        chunks += (_CONTENT_TAG, varint(_size(content)), content)
    check_size(sum(map(_size, chunks)), max_bytes)
    return chunks


def _size(chunk: Buffer) -> int:
    return chunk.nbytes if isinstance(chunk, memoryview) else len(chunk)


def _add_parameters(reply: pb.ModelInferResponse, parameters: Mapping[str, Parameter]) -> None:
    for key, value in parameters.items():
        kinds = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
        setattr(reply.parameters[key], kinds[type(value)], value)


def check_size(size: int, max_bytes: int) -> None:
    """Raise InvalidArgumentError for an answer that does not fit a message."""
    # A message that gRPC itself finds too large would end a whole stream.
    if size + ENVELOPE_BYTES > max_bytes:
        raise InvalidArgumentError(
            f"Response has byte size {size} which exceeds gRPC's byte size limit {max_bytes}. "
            "(--grpc-max-message-bytes)"
        )


class ReplyFrame(NamedTuple):
    """All of an answer but its id and its outputs' bytes: the same for each answer of one kind.

    `marks` has what comes before the bytes of each output that the answer carries: its tag and length, and
    those of outputs in shared memory before it, which are empty; `tail` what comes after the last one. `size`
    is that of the whole without the id.
    """

    names: bytes
    outputs: bytes
    marks: tuple[bytes, ...]
    tail: bytes
    size: int

    @classmethod
    def of(
        cls,
        model_name: str,
        version: int,
        outputs: Iterable[tuple[str, DataType, Array]],
        *,
        shared: Container[str] = (),
        final: bool,
    ) -> ReplyFrame:
        """The frame of answers with outputs of these datatypes and shapes.

        Args:
            model_name: as the request names it.
            version: the version that answers.
            outputs: name, datatype and an array of the output's shape and size.
            shared: the outputs that lie in shared memory.
            final: mark the answer as the last one of its request, as streams want it.
        """
        names = pb.ModelInferResponse(model_name=model_name, model_version=str(version))
        specs = pb.ModelInferResponse()
        if final:
            specs.parameters[FINAL_RESPONSE].bool_param = True
        marks = []
        mark = b""
        size = 0
        for name, datatype, array in outputs:
            specs.outputs.add(name=name, datatype=datatype.value, shape=array.shape)
            if name in shared:
                mark += _CONTENT_TAG + varint(0)
                continue
            marks.append(mark + _CONTENT_TAG + varint(array.nbytes))
            mark = b""
            size += array.nbytes
        fixed = names.SerializeToString(), specs.SerializeToString()
        size += sum(map(len, (*fixed, *marks, mark)))
        return cls(*fixed, tuple(marks), mark, size)

    def fill(self, id_field: bytes, arrays: Iterable[Array]) -> bytes:
        """A serialized `ModelInferResponse`.

        Args:
            id_field: as it lay in the request.
            arrays: the outputs that are not shared.
        """
        return b"".join(self._pieces(id_field, arrays))

    def fill_streamed(self, id_field: bytes, arrays: Iterable[Array]) -> bytes:
        """A serialized `ModelStreamInferResponse`."""
        pieces = self._pieces(id_field, arrays)
        return b"".join((_STREAMED_TAG, varint(self.size + len(id_field)), *pieces))

    def _pieces(self, id_field: bytes, arrays: Iterable[Array]) -> Sequence[Buffer]:
        pieces: list[Buffer] = [self.names, id_field, self.outputs]
        for mark, array in zip(self.marks, arrays, strict=True):
            pieces.append(mark)
            # A strided array must be laid out first; join takes the memory of any other as it is.
            pieces.append(array.data if array.flags.c_contiguous else array.tobytes())
        pieces.append(self.tail)
        return pieces
