"""What a call can fail with: one small tree, made from gRPC's status codes.

    NaiadError                    any other status; `code` and `message` say which
    ├── InvalidArgumentError      the request is wrong in itself; repeating it cannot succeed
    ├── NotFoundError             no such model or version
    ├── AlreadyExistsError        the name is taken
    ├── UnsupportedError          the server does not offer it
    ├── UnavailableError          not reachable, loading or draining; another try may succeed
    ├── ResourceExhaustedError    over one of the server's limits
    ├── DeadlineExceededError     the call's timeout passed
    ├── CancelledError            the call was cancelled, for example by closing the client
    └── InternalError             the model or the server failed

What is wrong before anything is sent (an array of floats, say) is an ordinary TypeError or ValueError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

if TYPE_CHECKING:
    from collections.abc import Iterable


class NaiadError(Exception):
    """Base of every failed call.

    Attributes:
        code: the gRPC status code.
        message: the server's own words.
        retry_after_ms: when another try may succeed, if the server said so; negative where it asks for none.
    """

    def __init__(self, code: grpc.StatusCode, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.retry_after_ms = retry_after_ms

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


class InvalidArgumentError(NaiadError):
    """The request is wrong in itself; repeating it unchanged cannot succeed."""


class NotFoundError(NaiadError):
    """No such model or version."""


class AlreadyExistsError(NaiadError):
    """The name is already in use."""


class UnsupportedError(NaiadError):
    """The server does not offer it (gRPC: UNIMPLEMENTED)."""


class UnavailableError(NaiadError):
    """Not reachable, loading or draining; another try may succeed."""


class ResourceExhaustedError(NaiadError):
    """Over one of the server's limits."""


class DeadlineExceededError(NaiadError):
    """The call's timeout passed before its answer came."""


class CancelledError(NaiadError):
    """The call was cancelled, for example because the client was closed."""


class InternalError(NaiadError):
    """The model or the server failed."""


_KINDS: dict[grpc.StatusCode, type[NaiadError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExistsError,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.CANCELLED: CancelledError,
    grpc.StatusCode.INTERNAL: InternalError,
}
_BY_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


_PUSHBACK = "grpc-retry-pushback-ms"
_NO_RETRY = -1


def from_status(code: grpc.StatusCode, message: str, retry_after_ms: int | None = None) -> NaiadError:
    """The error for a status."""
    return _KINDS.get(code, NaiadError)(code, message, retry_after_ms)


def from_number(number: int, message: str) -> NaiadError:
    """The error for a status code's number on the wire; a number that gRPC lacks counts as UNKNOWN."""
    return from_status(_BY_NUMBER.get(number, grpc.StatusCode.UNKNOWN), message)


def from_rpc(error: grpc.RpcError) -> NaiadError:
    """The error for what a gRPC call raised."""
    trailers = getattr(error, "trailing_metadata", None)
    return from_status(error.code(), error.details() or "", pushback_ms(trailers() if trailers else None))


def pushback_ms(trailers: Iterable[tuple[str, str | bytes]] | None) -> int | None:
    """When to try again, in milliseconds, as a call's trailers say; negative for never, as gRPC has it."""
    value = next((value for key, value in trailers or () if key == _PUSHBACK), None)
    if value is None:
        return None
    try:
        return int(value)
    except ValueError:
        return _NO_RETRY  # gRPC's rule: what is no number asks for no retry
