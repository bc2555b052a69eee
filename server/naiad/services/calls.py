"""The calls at work, and the end of them: what a drain waits for."""

from __future__ import annotations

import asyncio
from typing import Self

QUIET_S = 0.1
"""For so long no call may have come before a drained server closes its port."""


class Calls:
    """Counts the calls at work and tells long ones that the server drains. Used on the event loop's thread.

    A context manager around each call. When a server is stopped, gRPC answers CANCELLED to calls that it has
    read from a socket and not yet handed over, which callers take for their own doing. So a drain first goes
    on taking calls, to refuse them as UNAVAILABLE, until none is at work and none has come for a while.
    """

    def __init__(self) -> None:
        self._active = 0
        self._arrived = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = asyncio.Event()

    def __enter__(self) -> Self:
        self._active += 1
        self._arrived += 1
        self._idle.clear()
        return self

    def __exit__(self, *_: object) -> None:
        self._active -= 1
        if not self._active:
            self._idle.set()

    def __repr__(self) -> str:
        return f"<Calls active={self._active} arrived={self._arrived}>"

    @property
    def active(self) -> int:
        """Calls at work."""
        return self._active

    def begin_drain(self) -> None:
        """Streams read no further message; what they have read is answered."""
        self._draining.set()

    async def draining(self) -> None:
        """Wait for `begin_drain`."""
        await self._draining.wait()

    async def quiet(self) -> None:
        """Wait until no call is at work and none has come for `QUIET_S` seconds."""
        while True:
            await self._idle.wait()
            arrived = self._arrived
            await asyncio.sleep(QUIET_S)
            if arrived == self._arrived and not self._active:
                return
