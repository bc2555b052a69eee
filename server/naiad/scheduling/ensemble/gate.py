"""How many requests may be at work in one step of an ensemble at once; further ones wait for their turn."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Hashable


class StepGate:
    """Lets requests into a step, first come, first served. Belongs to the event loop's thread.

    A request holds its place in one gate only while its step is at work, and waits in no other meanwhile on
    behalf of that step: so no two can wait for each other.
    """

    def __init__(self, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        """Create it open; `limit` 0 lets everyone in at once."""
        self._limit = limit
        self._loop = loop
        self._inside = 0
        self._waiting: OrderedDict[Hashable, Callable[[], None]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return len(self._waiting)

    def enter(self, who: Hashable, go: Callable[[], None]) -> None:
        """Call `go` now or when it is `who`'s turn; who was let in calls `leave` once."""
        if self._limit and self._inside >= self._limit:
            self._waiting[who] = go
            return
        self._inside += 1
        go()

    def leave(self) -> None:
        """Give the place to the next one, who is called by the loop: a row of them must not nest."""
        if self._waiting:
            _, go = self._waiting.popitem(last=False)
            self._loop.call_soon(go)
        else:
            self._inside -= 1

    def give_up(self, who: Hashable) -> None:
        """Wait no longer. Who was let in already still calls `leave`."""
        self._waiting.pop(who, None)
