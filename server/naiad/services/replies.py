"""Inference answers as gRPC carries them: outputs with raw contents, within the limit of a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tritonclient.grpc import service_pb2 as pb

from naiad.core.errors import InvalidArgumentError
from naiad.services.contents import raw_contents

if TYPE_CHECKING:
    from collections.abc import Mapping

    from naiad.core.tensors import Parameter
    from naiad.services.answer import InferAnswer

ENVELOPE_BYTES = 128
"""What a stream may add around an answer: its own message, the final-response parameter."""


def to_protobuf(answer: InferAnswer, max_bytes: int) -> pb.ModelInferResponse:
    """The reply: outputs sorted by name, raw contents in the same order, empty for one in shared memory.

    Raises:
        InvalidArgumentError: the reply is larger than a message may be.
    """
    # Before anything is copied: a sum of what the arrays hold.
    _check_size(sum(each.array.nbytes for each in answer.tensors if each.array is not None), max_bytes)
    reply = pb.ModelInferResponse(
        model_name=answer.model_name, model_version=answer.model_version, id=answer.id
    )
    if answer.parameters:
        _add_parameters(reply, answer.parameters)
    for tensor in answer.tensors:
        reply.outputs.add(name=tensor.name, datatype=tensor.datatype.value, shape=tensor.shape)
        array = tensor.array
        reply.raw_output_contents.append(b"" if array is None else raw_contents(array, tensor.datatype))
    _check_size(reply.ByteSize(), max_bytes)
    return reply


def _add_parameters(reply: pb.ModelInferResponse, parameters: Mapping[str, Parameter]) -> None:
    for key, value in parameters.items():
        kinds = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
        setattr(reply.parameters[key], kinds[type(value)], value)


def _check_size(size: int, max_bytes: int) -> None:
    # A message that gRPC itself finds too large would end a whole stream.
    if size + ENVELOPE_BYTES > max_bytes:
        raise InvalidArgumentError(
            f"Response has byte size {size} which exceeds gRPC's byte size limit {max_bytes}. "
            "(--grpc-max-message-bytes)"
        )
