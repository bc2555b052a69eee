"""Frames at work that must pass one place in their order, such as a tracker."""

from __future__ import annotations

import asyncio
from collections import OrderedDict


class Turns:
    """A line in which frames are entered as they are begun with. Used on the event loop's thread."""

    def __init__(self) -> None:
        self._line: OrderedDict[int, asyncio.Future[None] | None] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Turns waiting={list(self._line)}>"

    def enter(self, number: int) -> None:
        """A frame has been begun with; it must leave, whatever becomes of it."""
        self._line[number] = None

    async def wait(self, number: int) -> None:
        """Wait until every frame that was entered before has left."""
        if next(iter(self._line)) != number:
            turn = self._line[number] = asyncio.get_running_loop().create_future()
            await turn

    def leave(self, number: int) -> None:
        """The frame has passed, or will not. Safe to call twice."""
        if number in self._line:
            is_first = next(iter(self._line)) == number
            del self._line[number]
            if is_first and self._line:
                turn = next(iter(self._line.values()))
                if turn is not None and not turn.done():
                    turn.set_result(None)
