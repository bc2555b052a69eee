"""The server's event loop: asyncio's own, that asks the system for news less often while it has work."""

from __future__ import annotations

import asyncio
from selectors import DefaultSelector
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selectors import SelectorKey

MOST_PASSES = 8
"""So often in a row the loop's work goes on before the system is asked for news: a frame of a stream takes
about so many steps from its last byte to the instance, or from there to the socket."""


class SparingSelector(DefaultSelector):
    """A selector that does not ask while the loop has callbacks ready anyway.

    asyncio asks between any two rounds of callbacks. Each time the interpreter's lock is let go, and where
    instances want it, it is not there again at once: a step of some microseconds waits for a head that reads
    outputs. What comes meanwhile waits for a few rounds of callbacks, which are short on this loop.
    """

    _passes = 0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """As asyncio asks: `timeout` is 0 while callbacks are ready."""
        if timeout == 0 and self._passes < MOST_PASSES:
            self._passes += 1
            return []
        self._passes = 0
        return super().select(timeout)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop for `asyncio.Runner`."""
    return asyncio.SelectorEventLoop(SparingSelector())
