"""Triton's inference messages to domain requests, with Triton's checks in Triton's order."""

from __future__ import annotations

import heapq
import re
from typing import TYPE_CHECKING

from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import WILDCARD, InferRequest
from naiad.services.contents import INT64_MAX, bytes_array, numeric_array
from naiad.services.shared_memory.table import Lease

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tritonclient.grpc import service_pb2 as pb

    from naiad.config.model_config import ModelConfig, TensorConfig
    from naiad.core.tensors import Array
    from naiad.services.contents import BoundContent
    from naiad.services.parameters import RequestParameters

_BATCH_NOTE = (
    " NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended "
    "to each input shape. If you want to specify the full shape including the batch dim in your input dims "
    "config, try setting max_batch_size to zero. See the model configuration docs for more info on "
    "max_batch_size."
)


HEAVY_TEXT_BYTES = 64 * 1024
"""Bytes of a request with text above which it is converted off the event loop."""

HEAVY_SHARED_BYTES = 4 * 2**20
"""Bytes of an input in shared memory above which they are copied off the event loop."""

MAX_QUOTED = 100
"""Names and dims of a request that a refusal quotes: a request may have a million."""

INT64_MIN = -INT64_MAX - 1


def parse_version(text: str) -> int | None:
    """The version that a request names; None for an empty string: the server chooses.

    Raises:
        InvalidArgumentError: not a number, or negative.
    """
    if not text:
        return None
    # As C's stol, which Triton uses, reads it: leading blanks and what follows the digits are passed over.
    digits = re.match(r"[ \t\n\v\f\r]*([+-]?)0*([0-9]{1,20})", text)
    # Twenty digits are too many already, and Python refuses to look at thousands.
    version = int("".join(digits.groups())) if digits else None
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


def is_heavy_request(message: pb.ModelInferRequest, contents: Sequence[BoundContent]) -> bool:
    """Whether `to_domain` belongs off the event loop: texts are taken apart one by one, regions copied."""
    return any(
        _is_heavy(tensor.datatype, content) for tensor, content in zip(message.inputs, contents, strict=True)
    )


def _is_heavy(datatype: str, content: BoundContent) -> bool:
    is_shared = isinstance(content, Lease)
    size = content.byte_size if isinstance(content, Lease) else len(content)
    if datatype == DataType.BYTES.value:
        return size > HEAVY_TEXT_BYTES
    return is_shared and size > HEAVY_SHARED_BYTES


def check_declared(
    message: pb.ModelInferRequest, config: ModelConfig, *, added: Iterable[str] = ()
) -> tuple[str, ...] | None:
    """Check what comes before the inputs' data is looked at: names given twice, outputs that are not there.

    Args:
        message: Triton's message.
        config: the config of the version that will answer.
        added: outputs that may be asked for beside the config's.

    Returns:
        The requested outputs, sorted; None for all.

    Raises:
        InvalidArgumentError: the first fault, in Triton's words.
    """
    prefix = request_prefix(message)
    if len(message.inputs) > len(config.inputs) + MAX_QUOTED:
        # Before each of a million is looked at, which the loop has no time for.
        raise _wrong_count([tensor.name for tensor in message.inputs], config, prefix)
    _check_duplicates(message, prefix)
    return _requested_outputs(message, config, prefix, added)


def to_domain(
    message: pb.ModelInferRequest,
    config: ModelConfig,
    parameters: RequestParameters,
    outputs: tuple[str, ...] | None,
    contents: Sequence[BoundContent],
    *,
    deadline_ns: int | None,
) -> InferRequest:
    """The request in domain terms, validated against the config of the version that will answer.

    Args:
        message: Triton's message.
        config: the config of the version that will answer.
        parameters: the message's, read already.
        outputs: from `check_declared`.
        contents: the inputs' data, from `bind_contents`; the request's tensors are views of it.
        deadline_ns: the caller's deadline on the monotonic clock.

    Raises:
        InvalidArgumentError: the first fault in Triton's order of checks, in Triton's words.
        InternalError: shared memory cannot be read.
    """
    prefix = request_prefix(message)
    specs = _declared(message, config, prefix)
    batch_size = _batch_size(message, specs, config, prefix)
    for tensor, spec in zip(message.inputs, specs, strict=True):
        _check_tensor(tensor, spec, config, prefix)
    arrays: dict[str, Array] = {}
    for tensor, spec, content in zip(message.inputs, specs, contents, strict=True):
        arrays[spec.name] = _array(content, spec, tuple(tensor.shape), config.name, prefix)
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
        priority=parameters.priority,
        timeout_us=parameters.timeout_us,
        sequence_id=parameters.sequence_id,
        sequence_start=parameters.sequence_start,
        sequence_end=parameters.sequence_end,
        parameters=parameters.custom,
    )


def _array(
    content: BoundContent, spec: TensorConfig, shape: tuple[int, ...], model: str, prefix: str
) -> Array:
    if spec.datatype is DataType.BYTES:
        return bytes_array(content, shape, name=spec.name, model=model, prefix=prefix)
    if isinstance(content, list):  # elements of another datatype's typed BYTES field
        content = b"".join(content)
    return numeric_array(content, spec.datatype, shape, name=spec.name, model=model, prefix=prefix)


def request_prefix(message: pb.ModelInferRequest) -> str:
    """What many of Triton's refusals begin with: the request's id."""
    return f"[request id: {message.id or '<id_unknown>'}] "


def _check_duplicates(message: pb.ModelInferRequest, prefix: str) -> None:
    seen: set[str] = set()
    for tensor in message.inputs:
        if tensor.name in seen:
            raise InvalidArgumentError(f"{prefix}input '{tensor.name}' already exists in request")
        seen.add(tensor.name)


def _requested_outputs(
    message: pb.ModelInferRequest, config: ModelConfig, prefix: str, added: Iterable[str]
) -> tuple[str, ...] | None:
    if not message.outputs:
        return None
    known = {output.name for output in config.outputs}.union(added)
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
    required = _required(config)
    if not len(required) <= len(sent) <= len(known):
        raise _wrong_count(sent, config, prefix)
    for name in sent:
        if name not in known:
            raise InvalidArgumentError(f"unexpected inference input '{name}' for model '{config.name}'")
    if not set(required).issubset(sent):
        raise _wrong_count(sent, config, prefix)
    return [known[name] for name in sent]


def _required(config: ModelConfig) -> list[str]:
    return [spec.name for spec in config.inputs if not spec.optional]


def _wrong_count(sent: Sequence[str], config: ModelConfig, prefix: str) -> InvalidArgumentError:
    required = _required(config)
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
    named = heapq.nsmallest(MAX_QUOTED + 1, names)
    return ",".join(f"'{name}'" for name in named[:MAX_QUOTED]) + _more(named)


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
    # One dim too many already does not fit; there may be ten million.
    shape = list(tensor.shape[: max(MAX_QUOTED, len(spec.dims) + 1) + 1])
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
    return "[" + ",".join(map(str, dims[:MAX_QUOTED])) + _more(dims) + "]"


def _more(quoted: Sequence[object]) -> str:
    return ",..." if len(quoted) > MAX_QUOTED else ""
