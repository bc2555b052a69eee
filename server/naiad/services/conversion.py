"""Triton's inference messages to domain requests and back, with Triton's checks in Triton's order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tritonclient.grpc import service_pb2 as pb

from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import WILDCARD, InferRequest
from naiad.services.contents import INT64_MAX, bind_contents, bytes_array, numeric_array, raw_contents

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.core.tensors import Array, InferResponse

_BATCH_NOTE = (
    " NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended "
    "to each input shape. If you want to specify the full shape including the batch dim in your input dims "
    "config, try setting max_batch_size to zero. See the model configuration docs for more info on "
    "max_batch_size."
)


HEAVY_TEXT_BYTES = 64 * 1024
"""Bytes of a request with text above which it is converted off the event loop."""

HEAVY_TEXTS = 4_096
"""Texts of an output above which the response is converted off the event loop."""

ENVELOPE_BYTES = 128
"""What a stream may add around an answer: its own message, the final-response parameter."""

INT64_MIN = -INT64_MAX - 1


def parse_version(text: str) -> int | None:
    """The version that a request names; None for an empty string: the server chooses.

    Raises:
        InvalidArgumentError: not a number, or negative.
    """
    if not text:
        return None
    # As C's stol, which Triton uses, reads it: leading blanks and what follows the digits are passed over.
    digits = re.match(r"[ \t\n\v\f\r]*([+-]?[0-9]+)", text)
    version = int(digits.group(1)) if digits else None
    if version is None or not INT64_MIN <= version <= INT64_MAX:
        raise InvalidArgumentError(
            f"failed to get model version from specified version string '{text}' (details: stol), "
            "version should be an integral value > 0"
        )
    if version < 0:
        raise InvalidArgumentError(
            f"invalid model version specified '{text}' , version should be an integral value > 0"
        )
    return version


def is_heavy_request(message: pb.ModelInferRequest) -> bool:
    """Whether `to_domain` belongs off the event loop: texts are taken apart one by one."""
    return any(tensor.datatype == DataType.BYTES.value for tensor in message.inputs) and (
        sum(map(len, message.raw_input_contents)) > HEAVY_TEXT_BYTES
    )


def is_heavy_response(response: InferResponse) -> bool:
    """Whether `to_protobuf` belongs off the event loop."""
    return any(array.dtype.hasobject and array.size > HEAVY_TEXTS for array in response.outputs.values())


def to_domain(message: pb.ModelInferRequest, config: ModelConfig, deadline_ns: int | None) -> InferRequest:
    """The request in domain terms, validated against the config of the version that will answer.

    Inputs are views of the message's bytes: the message must outlive the request.

    Raises:
        InvalidArgumentError: the first fault in Triton's order of checks, in Triton's words.
    """
    prefix = f"[request id: {message.id or '<id_unknown>'}] "
    _check_duplicates(message, prefix)
    outputs = _requested_outputs(message, config, prefix)
    data = bind_contents(message)
    specs = _declared(message, config, prefix)
    batch_size = _batch_size(message, specs, config, prefix)
    for tensor, spec in zip(message.inputs, specs, strict=True):
        _check_tensor(tensor, spec, config, prefix)
    arrays: dict[str, Array] = {}
    for tensor, spec, content in zip(message.inputs, specs, data, strict=True):
        shape = tuple(tensor.shape)
        if spec.datatype is DataType.BYTES:
            arrays[spec.name] = bytes_array(content, shape, name=spec.name, model=config.name, prefix=prefix)
        else:
            assert isinstance(content, bytes)
            arrays[spec.name] = numeric_array(
                content, spec.datatype, shape, name=spec.name, model=config.name, prefix=prefix
            )
    if batch_size < 1:
        raise InvalidArgumentError(
            f"{prefix}inference request batch-size must be >= 1 for '{config.name}', got {batch_size}"
        )
    return InferRequest(
        model_name=config.name,
        version=None,
        inputs=arrays,
        outputs=outputs,
        batch_size=batch_size,
        request_id=message.id,
        deadline_ns=deadline_ns,
    )


def _check_duplicates(message: pb.ModelInferRequest, prefix: str) -> None:
    seen: set[str] = set()
    for tensor in message.inputs:
        if tensor.name in seen:
            raise InvalidArgumentError(f"{prefix}input '{tensor.name}' already exists in request")
        seen.add(tensor.name)


def _requested_outputs(
    message: pb.ModelInferRequest, config: ModelConfig, prefix: str
) -> tuple[str, ...] | None:
    if not message.outputs:
        return None
    known = {output.name for output in config.outputs}
    names: set[str] = set()
    for output in message.outputs:
        if output.name not in known:
            raise InvalidArgumentError(
                f"unexpected inference output '{output.name}' for model '{config.name}'"
            )
        if output.name in names:
            raise InvalidArgumentError(f"{prefix}output '{output.name}' already exists in request")
        names.add(output.name)
    return tuple(sorted(names))


def _declared(message: pb.ModelInferRequest, config: ModelConfig, prefix: str) -> list[TensorConfig]:
    """The config of each input of the message; all required ones are there."""
    known = {spec.name: spec for spec in config.inputs}
    sent = [tensor.name for tensor in message.inputs]
    required = [spec.name for spec in config.inputs if not spec.optional]
    if not len(required) <= len(sent) <= len(known):
        raise _wrong_count(sent, required, config, prefix)
    for name in sent:
        if name not in known:
            raise InvalidArgumentError(f"unexpected inference input '{name}' for model '{config.name}'")
    if not set(required).issubset(sent):
        raise _wrong_count(sent, required, config, prefix)
    return [known[name] for name in sent]


def _wrong_count(
    sent: Sequence[str], required: Sequence[str], config: ModelConfig, prefix: str
) -> InvalidArgumentError:
    total = len(config.inputs)
    if len(required) < total:
        wanted = f"number of inputs between {len(required)} and {total}"
    else:
        wanted = f"{total} inputs"
    missing = set(required).difference(sent)
    return InvalidArgumentError(
        f"{prefix}expected {wanted} but got {len(sent)} inputs for model '{config.name}'. "
        f"Got input(s) [{_quoted(sent)}], but missing required input(s) [{_quoted(missing)}]. "
        "Please provide all required input(s)."
    )


def _quoted(names: Iterable[str]) -> str:
    return ",".join(f"'{name}'" for name in sorted(names))


def _batch_size(
    message: pb.ModelInferRequest, specs: Sequence[TensorConfig], config: ModelConfig, prefix: str
) -> int:
    """The batch size that all inputs share; 1 for a model without a batch dimension."""
    if config.max_batch_size == 0 or not specs:
        return 1
    for tensor, spec in zip(message.inputs, specs, strict=True):
        if not tensor.shape:
            raise InvalidArgumentError(
                f"{prefix}input '{spec.name}' has no shape but model requires batch dimension "
                f"for '{config.name}'"
            )
        if tensor.shape[0] != message.inputs[0].shape[0]:
            raise InvalidArgumentError(
                f"{prefix}input '{spec.name}' batch size does not match other inputs for '{config.name}'"
            )
    size = int(message.inputs[0].shape[0])
    if size > config.max_batch_size:
        raise InvalidArgumentError(
            f"{prefix}inference request batch-size must be <= {config.max_batch_size} for '{config.name}'"
        )
    return size


def _check_tensor(
    tensor: pb.ModelInferRequest.InferInputTensor, spec: TensorConfig, config: ModelConfig, prefix: str
) -> None:
    if tensor.datatype != spec.datatype.value:
        sent = tensor.datatype if DataType.from_wire_name(tensor.datatype) else "<invalid>"
        raise InvalidArgumentError(
            f"{prefix}inference input '{spec.name}' data-type is '{sent}', but model '{config.name}' expects "
            f"'{spec.datatype.value}'"
        )
    shape = list(tensor.shape)
    batched = config.max_batch_size > 0
    dims = shape[1:] if batched else shape
    fits = len(dims) == len(spec.dims) and all(
        expected in (WILDCARD, dim) for dim, expected in zip(dims, spec.dims, strict=False)
    )
    if not fits:
        wanted = [WILDCARD, *spec.dims] if batched else list(spec.dims)
        raise InvalidArgumentError(
            f"{prefix}unexpected shape for input '{spec.name}' for model '{config.name}'. "
            f"Expected {_dims(wanted)}, got {_dims(shape)}.{_BATCH_NOTE if batched else ''}"
        )
    if any(dim < 0 for dim in shape):
        raise InvalidArgumentError(
            f"{prefix}All input dimensions should be specified for input '{spec.name}' for model "
            f"'{config.name}', got {_dims(shape)}"
        )


def _dims(dims: Sequence[int]) -> str:
    return "[" + ",".join(map(str, dims)) + "]"


def to_protobuf(
    response: InferResponse, message: pb.ModelInferRequest, config: ModelConfig, max_bytes: int
) -> pb.ModelInferResponse:
    """The answer: outputs sorted by name, raw contents in the same order.

    Raises:
        InvalidArgumentError: the answer is larger than a message may be.
    """
    _check_size(sum(array.nbytes for array in response.outputs.values()), max_bytes)
    answer = pb.ModelInferResponse(
        model_name=message.model_name, model_version=str(response.model.version), id=message.id
    )
    datatypes = {output.name: output.datatype for output in config.outputs}
    for name, array in response.outputs.items():
        datatype = datatypes[name]
        answer.outputs.add(name=name, datatype=datatype.value, shape=array.shape)
        answer.raw_output_contents.append(raw_contents(array, datatype))
    _check_size(answer.ByteSize(), max_bytes)
    return answer


def _check_size(size: int, max_bytes: int) -> None:
    # A message that gRPC itself finds too large would end a whole stream.
    if size + ENVELOPE_BYTES > max_bytes:
        raise InvalidArgumentError(
            f"Response has byte size {size} which exceeds gRPC's byte size limit {max_bytes}. "
            "(--grpc-max-message-bytes)"
        )
