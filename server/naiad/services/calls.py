"""The calls at work, and the end of them: what a drain waits for."""

from __future__ import annotations

import asyncio
import contextlib

SHUTTING_DOWN = "GRPC server is shutting down and has stopped accepting new requests."
"""What is told to whoever comes while the server drains; Triton's words."""

QUIET_S = 0.1
"""For so long no call may have come before a drained server closes its port."""

QUIET_LIMIT_S = 1.0
"""After so long it closes its port though calls still come."""


class Calls:
    """Counts the calls at work and tells long ones that the server drains. Used on the event loop's thread.

    When a server is stopped, gRPC answers CANCELLED to calls that it has read from a socket and not yet
    handed over, which callers take for their own doing. So a drain first goes on taking calls, to refuse them
    as UNAVAILABLE, until every accepted one is answered and, for a short while, none has come.
    """

    def __init__(self) -> None:
        self._accepted = 0
        self._arrived = 0
        self._answered = asyncio.Event()
        self._answered.set()
        self._draining = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Calls accepted={self._accepted} arrived={self._arrived}>"

    @property
    def accepted(self) -> int:
        """Calls at work that came before the drain began."""
        return self._accepted

    @property
    def is_draining(self) -> bool:
        """Whether `begin_drain` was called."""
        return self._draining.is_set()

    def begin(self) -> bool:
        """Count a call; returns what `end` must be told: whether it was accepted."""
        self._arrived += 1
        if self._draining.is_set():
            return False
        self._accepted += 1
        self._answered.clear()
        return True

    def end(self, accepted: bool) -> None:
        """Count a call's end."""
        if accepted:
            self._accepted -= 1
            if not self._accepted:
                self._answered.set()

    def begin_drain(self) -> None:
        """Streams read no further message; what they have read is answered."""
        self._draining.set()

    async def draining(self) -> None:
        """Wait for `begin_drain`."""
        await self._draining.wait()

    async def answered(self, limit_s: float) -> bool:
        """Wait up to `limit_s` seconds until no accepted call is at work; whether that was so."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._answered.wait(), limit_s)
        return not self._accepted

    async def quiet(self) -> None:
        """Wait until no call has come for `QUIET_S`, at most `QUIET_LIMIT_S` seconds."""
        for _ in range(round(QUIET_LIMIT_S / QUIET_S)):
            arrived = self._arrived
            await asyncio.sleep(QUIET_S)
            if arrived == self._arrived:
                return
