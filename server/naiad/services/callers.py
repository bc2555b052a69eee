"""Calls and requests to callers: the metadata and the parameters that keep a caller with a version."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError
from naiad.lifecycle.caller import NOBODY, Caller, SequenceStep, check_key, parse_versions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tritonclient.grpc.service_pb2 import InferParameter

KEY_HEADER = "x-naiad-key"
"""The header, or gRPC metadata, with a caller's key."""

VERSION_HEADER = "x-naiad-version"
"""The header, or gRPC metadata, that names versions: `2`, or `NAME=2`, or several with commas between."""

KEY_PARAMETER = "naiad_key"
"""The request parameter with a caller's key."""

_KEY_KINDS = {"string_param", "int64_param", "uint64_param"}


def caller_of(metadata: Iterable[tuple[str, str | bytes]], *, is_stream: bool = False) -> Caller:
    """Who a call is from.

    Args:
        metadata: the call's, names in lower case.
        is_stream: it brings several requests, which keep to one version of a model.

    Raises:
        InvalidArgumentError: the key is too long, or the version none.
    """
    key: str | None = None
    versions: dict[str, int] | None = None
    for name, value in metadata:
        if name == KEY_HEADER:
            key = check_key(str(value), KEY_HEADER)
        elif name == VERSION_HEADER:
            versions = parse_versions(str(value), VERSION_HEADER)
    if is_stream:
        own = f"stream {secrets.token_hex(8)}" if key is None else key
        return Caller(own, versions=versions, pins={}, is_named=key is not None)
    if key is None and versions is None:
        return NOBODY
    return Caller(key, versions=versions, is_named=key is not None)


def with_parameters(caller: Caller, parameters: Mapping[str, InferParameter]) -> Caller:
    """Who one request of a call is from: its key and its sequence come into it.

    Raises:
        InvalidArgumentError: the key is neither a text nor a whole number, or too long.
    """
    if not parameters:
        return caller
    key = _key(parameters[KEY_PARAMETER]) if KEY_PARAMETER in parameters else None
    step = _step(parameters) if "sequence_id" in parameters else None
    return caller.of_request(key=key, sequence=step)


def _key(parameter: InferParameter) -> str:
    kind = parameter.WhichOneof("parameter_choice")
    if kind not in _KEY_KINDS:
        raise InvalidArgumentError(
            f"parameter '{KEY_PARAMETER}' is a {kind}, it must be a string_param or a whole number"
        )
    return check_key(str(getattr(parameter, kind)), f"parameter '{KEY_PARAMETER}'")


def _step(parameters: Mapping[str, InferParameter]) -> SequenceStep | None:
    """The request's place in its sequence; None for an id that is none, which is refused later."""
    parameter = parameters["sequence_id"]
    sequence_id = parameter.string_param or parameter.int64_param
    if not sequence_id:
        return None
    return SequenceStep(
        sequence_id,
        starts="sequence_start" in parameters and parameters["sequence_start"].bool_param,
        ends="sequence_end" in parameters and parameters["sequence_end"].bool_param,
    )
