"""One call of a vision method in this process: what its handler sees of gRPC, how it ends for its caller."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn

from grpc.aio import AioRpcError, Metadata

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import grpc


CLOSED = "Channel closed!"
"""gRPC's words to whoever calls on a channel that was closed."""


class AbortedError(Exception):
    """A handler ended its call with a status."""

    def __init__(self, code: grpc.StatusCode, details: str, trailers: Sequence[tuple[str, str]]) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details
        self.trailers = tuple(trailers)

    def as_rpc_error(self) -> AioRpcError:
        """The same as a caller of gRPC knows it."""
        return rpc_error(self.code, self.details, self.trailers)


class LocalContext:
    """What handlers of the vision service use of a gRPC context."""

    def __init__(
        self, timeout_s: float | None, write: Callable[[Any], Awaitable[None]] | None = None
    ) -> None:
        """Begin a call.

        Args:
            timeout_s: seconds it may take; None for no limit.
            write: takes a stream's responses.
        """
        self._end = None if timeout_s is None else time.monotonic() + timeout_s
        self._write = write

    def time_remaining(self) -> float | None:
        """Seconds that are left; None without a limit."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """No metadata: nothing was sent."""
        return ()

    def peer(self) -> str:
        """Who calls."""
        return "inproc"

    def add_done_callback(self, _: Callable[[Any], None]) -> None:
        """Nothing that a handler would clean up outlives the call."""

    async def write(self, response: Any) -> None:
        """Hand a stream's response to the caller."""
        assert self._write is not None, "only streams write"
        await self._write(response)

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Sequence[tuple[str, str]] = ()
    ) -> NoReturn:
        """End the call with a status; raises AbortedError."""
        raise AbortedError(code, details, trailing_metadata)


def rpc_error(code: grpc.StatusCode, details: str, trailers: Sequence[tuple[str, str]] = ()) -> AioRpcError:
    """A failed call, for callers of either of gRPC's stacks."""
    return AioRpcError(code, Metadata(), Metadata(*trailers), details, None)
