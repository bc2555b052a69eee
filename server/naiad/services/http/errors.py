"""The one table from domain errors to HTTP status codes."""

from __future__ import annotations

from typing import NamedTuple

from naiad.core import errors
from naiad.services.status import status_of


class JsonTypeError(errors.InvalidArgumentError):
    """A dimension that is no unsigned integer, which Triton's clients know as 500."""


class StalledError(errors.DeadlineExceededError):
    """A body of which nothing more came in time."""


class RestrictedError(errors.InvalidArgumentError):
    """A call of a restricted category without its header."""


class NoSuchPathError(errors.NotFoundError):
    """A path that is none of the protocol's."""


class EncodingError(errors.UnsupportedError):
    """A body compressed in a way that is not served."""


class MethodError(errors.InvalidArgumentError):
    """A method that the path does not know."""

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


_CODES: dict[type[errors.NaiadError], int] = {
    errors.InvalidArgumentError: 400,
    errors.NotFoundError: 404,
    errors.AlreadyExistsError: 400,
    errors.UnsupportedError: 501,
    errors.UnavailableError: 503,
    errors.ResourceExhaustedError: 429,
    errors.DeadlineExceededError: 504,
    errors.CancelledError: 400,
    errors.InternalError: 500,
    JsonTypeError: 500,
    StalledError: 408,
    RestrictedError: 403,
    MethodError: 405,
}


class HttpError(NamedTuple):
    """What a failed call is told."""

    code: int
    message: str


def error_of(error: Exception, **call: str) -> HttpError:
    """The answer to an error; one that is not ours is logged, and becomes a sentence with the log's id.

    `call` is what the log says about the call.
    """
    code = next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), 500)
    return HttpError(code, status_of(error, **call, status=code).message)
