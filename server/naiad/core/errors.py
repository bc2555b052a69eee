"""The domain's errors: one small tree without transport words.

    NaiadError
    ├── InvalidArgumentError      the caller sent something the model or server cannot take
    ├── NotFoundError             no such model, version or resource
    ├── AlreadyExistsError        the name is taken
    ├── UnsupportedError          understood, and deliberately not done here
    ├── UnavailableError          cannot be served now; another try may succeed
    ├── ResourceExhaustedError    over a limit of this server
    ├── DeadlineExceededError     the caller's own time ran out
    │   └── EngineTimeoutError    another server that runs the model did not answer in time
    ├── CancelledError            the caller went away
    └── InternalError             the model or this server failed
        └── CallerFaultError      the caller is wrong, and Triton's clients know that as an internal error

`services/status.py` holds the one table from these to transport codes.
"""

from __future__ import annotations


class NaiadError(Exception):
    """Base of every error that may reach a caller; its text is what the caller reads.

    `retry_after_ms` is when another try may succeed, in milliseconds, where this server can tell; else None.
    """

    retry_after_ms: int | None = None

    @property
    def message(self) -> str:
        """The text for the caller."""
        return str(self.args[0]) if self.args else ""


class InvalidArgumentError(NaiadError):
    """The request or the config is wrong in itself; repeating it unchanged cannot succeed."""


class NotFoundError(NaiadError):
    """No such model, version or resource."""


class AlreadyExistsError(NaiadError):
    """The name is already in use."""


class UnsupportedError(NaiadError):
    """Understood, and deliberately not offered."""


class UnavailableError(NaiadError):
    """Not now: loading, draining or full. Another try may succeed."""


class ResourceExhaustedError(NaiadError):
    """Over one of this server's limits; the message names the value, the limit and the flag."""

    def __init__(self, message: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class DeadlineExceededError(NaiadError):
    """The caller's deadline passed before the work was done."""


class EngineTimeoutError(DeadlineExceededError):
    """The server that runs the model did not answer in its time; the caller may still be there."""


class CancelledError(NaiadError):
    """The caller went away."""


class InternalError(NaiadError):
    """The model or this server failed."""


class CallerFaultError(InternalError):
    """The caller is wrong; the code is that of a failure because Triton's clients know it so."""
