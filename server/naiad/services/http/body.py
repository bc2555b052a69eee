"""A request's body, read within limits of bytes and of time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from naiad.core.errors import CancelledError, UnavailableError
from naiad.services.http.errors import StalledError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from naiad.core.errors import NaiadError

    Receive = Callable[[], Awaitable[dict[str, Any]]]

MIN_RATE = 1_024
"""Bytes a second that a body must come at in the long run, or it has stalled."""


DRAIN_STALL_S = 2.0
"""How long the next bytes of a body may take once the server drains: an exit does not wait for the dead."""


class BodyBudget:
    """How many bytes of bodies are held, by all requests together, and how many may be."""

    def __init__(self, limit: int) -> None:
        self.held = 0
        self._limit = limit

    def __repr__(self) -> str:
        return f"<BodyBudget {self.held} of {self._limit}>"

    def take(self, size: int) -> None:
        """Hold so many bytes more.

        Raises:
            UnavailableError: they are too many.
        """
        if self.held + size > self._limit:
            raise UnavailableError(
                f"{self.held} bytes of request bodies are held, and with {size} more the limit of "
                f"{self._limit} is exceeded (--http-max-pending-bytes)"
            )
        self.held += size

    def give_back(self, size: int) -> None:
        """Hold so many bytes less."""
        self.held -= size


class BodyReader:
    """Reads one request's body, and counts its bytes as held until `release`.

    `declared` is its length as the head says, None if it comes in chunks. Whatever is left unread when the
    reply is sent is thrown away by the connection.
    """

    def __init__(self, receive: Receive, declared: int | None, stall_s: float, budget: BodyBudget) -> None:
        self._receive = receive
        self._declared = declared
        self._stall_s = stall_s
        self._budget = budget
        self._held = 0
        self._waiting: asyncio.Timeout | None = None

    def hurry(self) -> None:
        """Wait no longer than `DRAIN_STALL_S` for what is still to come: the server drains."""
        self._stall_s = min(self._stall_s, DRAIN_STALL_S)
        if self._waiting is not None and (when := self._waiting.when()) is not None:
            self._waiting.reschedule(min(when, asyncio.get_running_loop().time() + self._stall_s))

    def hold(self, size: int) -> None:
        """Count so many bytes that the body takes, as it came or inflated.

        Raises:
            UnavailableError: all bodies together take too many.
        """
        self._budget.take(size)
        self._held += size

    def release(self) -> None:
        """The body is not needed any more."""
        self._budget.give_back(self._held)
        self._held = 0

    async def read(self, limit: int, too_large: Callable[[int], NaiadError]) -> bytes | bytearray:
        """The whole body.

        Raises:
            NaiadError: of `too_large`, told the size, as soon as it is known to exceed `limit`; what has come
                by then is the size when the head does not say it.
            UnavailableError: all bodies together take too many bytes.
            StalledError: nothing more came in time.
        """
        if self._declared is not None and self._declared > limit:
            raise too_large(self._declared)
        started = asyncio.get_running_loop().time()
        chunk, more = await self._next()
        if not more and len(chunk) <= limit:
            return chunk  # the usual case: nothing to put together
        body = bytearray()
        while True:
            if len(body) + len(chunk) > limit:
                raise too_large(len(body) + len(chunk))
            body += chunk
            if not more:
                return body
            patience = started + self._stall_s + len(body) / MIN_RATE
            if asyncio.get_running_loop().time() > patience:
                raise self._stalled()
            chunk, more = await self._next()

    async def _next(self) -> tuple[bytes, bool]:
        try:
            async with asyncio.timeout(self._stall_s) as self._waiting:
                message = await self._receive()
        except TimeoutError:
            raise self._stalled() from None
        finally:
            self._waiting = None
        if message["type"] == "http.disconnect":
            raise CancelledError("the caller went away")
        chunk: bytes = message.get("body", b"")
        self.hold(len(chunk))
        return chunk, message.get("more_body", False)

    def _stalled(self) -> StalledError:
        return StalledError(
            f"no more of the request's body within {self._stall_s:g} seconds, or less than {MIN_RATE} bytes "
            "a second (--http-stall-timeout-secs)"
        )
