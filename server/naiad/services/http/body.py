"""A request's body, read within limits of bytes and of time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from naiad.core.errors import CancelledError
from naiad.services.http.errors import StalledError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from naiad.core.errors import NaiadError

    Receive = Callable[[], Awaitable[dict[str, Any]]]

MIN_RATE = 1_024
"""Bytes a second that a body must come at in the long run, or it has stalled."""


class BodyReader:
    """Reads one request's body.

    `declared` is its length as the head says, None if it comes in chunks. Whatever is left unread when the
    reply is sent is thrown away by the connection.
    """

    def __init__(self, receive: Receive, declared: int | None, stall_s: float) -> None:
        self._receive = receive
        self._declared = declared
        self._stall_s = stall_s

    async def read(self, limit: int, too_large: Callable[[int], NaiadError]) -> bytes | bytearray:
        """The whole body.

        Raises:
            NaiadError: of `too_large`, told the size, as soon as it is known to exceed `limit`; what has come
                by then is the size when the head does not say it.
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
            async with asyncio.timeout(self._stall_s):
                message = await self._receive()
        except TimeoutError:
            raise self._stalled() from None
        if message["type"] == "http.disconnect":
            raise CancelledError("the caller went away")
        return message.get("body", b""), message.get("more_body", False)

    def _stalled(self) -> StalledError:
        return StalledError(
            f"no more of the request's body within {self._stall_s:g} seconds, or less than {MIN_RATE} bytes "
            "a second (--http-stall-timeout-secs)"
        )
