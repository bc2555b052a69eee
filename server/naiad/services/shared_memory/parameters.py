"""The parameters by which a tensor of a request names the shared memory that it lies in."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tritonclient.grpc.service_pb2 import InferParameter

REGION = "shared_memory_region"
OFFSET = "shared_memory_offset"
BYTE_SIZE = "shared_memory_byte_size"


class ShmParameters(NamedTuple):
    """A range of a region, in bytes. The numbers are the caller's, unchecked, and may be negative."""

    region: str
    offset: int
    byte_size: int


def parse_shm_parameters(parameters: Mapping[str, InferParameter], tensor_name: str) -> ShmParameters | None:
    """The range that a tensor's parameters name, or None when they name none.

    Raises:
        InvalidArgumentError: a parameter has the wrong type, or stands without the one it needs.
    """
    has_region = REGION in parameters
    if has_region:
        _check_kind(parameters, REGION, "string_param", tensor_name)
    for key in (OFFSET, BYTE_SIZE):
        if key in parameters:
            if not has_region:
                raise InvalidArgumentError(
                    f"'{key}' can not be specified without '{REGION}' parameter for tensor '{tensor_name}'"
                )
            _check_kind(parameters, key, "int64_param", tensor_name)
    if not has_region:
        return None
    if BYTE_SIZE not in parameters:
        raise InvalidArgumentError(
            f"'{BYTE_SIZE}' must be specified along with '{REGION}' parameter for tensor '{tensor_name}'"
        )
    offset = parameters[OFFSET].int64_param if OFFSET in parameters else 0
    return ShmParameters(parameters[REGION].string_param, offset, parameters[BYTE_SIZE].int64_param)


def _check_kind(parameters: Mapping[str, InferParameter], key: str, kind: str, tensor_name: str) -> None:
    if parameters[key].WhichOneof("parameter_choice") != kind:
        raise InvalidArgumentError(
            f"invalid value type for '{key}' parameter for tensor '{tensor_name}', expected {kind}."
        )
