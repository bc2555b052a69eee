"""What a call to another server failed with, in the domain's errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from naiad.core.errors import (
    AlreadyExistsError,
    CancelledError,
    EngineTimeoutError,
    InternalError,
    InvalidArgumentError,
    NaiadError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_KINDS: Mapping[grpc.StatusCode, type[NaiadError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    # Its limit is not one of ours, and another server may have room.
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    grpc.StatusCode.CANCELLED: CancelledError,
}


def from_rpc(error: grpc.RpcError, host: str, timeout_s: float) -> NaiadError:
    """The domain's error for what a call to `host` raised.

    Args:
        error: of the call.
        host: where it went.
        timeout_s: what it was given. That it passed is no caller's deadline: EngineTimeoutError.
    """
    code = error.code()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return EngineTimeoutError(f"no answer from Triton at {host} in {timeout_s:g} s")
    details = error.details() or code.name
    return _KINDS.get(code, InternalError)(f"{details} (Triton at {host})")
