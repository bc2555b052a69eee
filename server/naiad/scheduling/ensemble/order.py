"""Requests of one sequence enter each step of an ensemble in the order in which they were submitted."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    SequenceId = int | str
    Line = OrderedDict["Place", Callable[[], None] | None]


class SequenceOrder:
    """For each sequence and step, the requests that have yet to enter, in order.

    An earlier step may take longer for one request than for the next one; a step that keeps the state of the
    sequence must not see that. A request waits here for those submitted before it alone, and holds nothing
    meanwhile, so no two can wait for each other. Of a sequence without requests nothing is kept. It belongs
    to the event loop's thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lines: dict[tuple[SequenceId, int], Line] = {}
        self._waiting = 0

    def __len__(self) -> int:
        """How many lines there are: none once every request has entered all its steps or has ended."""
        return len(self._lines)

    @property
    def waiting(self) -> int:
        """Steps whose inputs are there and that wait for an earlier request of their sequence."""
        return self._waiting

    def join(self, sequence_id: SequenceId, steps: Iterable[int]) -> Place:
        """The place of a request behind those that joined before, in the lines of the steps that it needs."""
        place = Place(self, sequence_id, steps)
        for step in place.steps:
            self._lines.setdefault((sequence_id, step), OrderedDict())[place] = None
        return place

    def enter(self, place: Place, step: int, go: Callable[[], None]) -> None:
        """Called by the place."""
        line = self._lines[place.sequence_id, step]
        if next(iter(line)) is place:
            go()
            return
        line[place] = go
        self._waiting += 1

    def remove(self, place: Place, step: int) -> None:
        """Called by the place."""
        line = self._lines[place.sequence_id, step]
        was_first = next(iter(line)) is place
        self._forget(line.pop(place))
        if not line:
            del self._lines[place.sequence_id, step]
        elif was_first:
            first = next(iter(line))
            go, line[first] = line[first], None
            self._forget(go)
            if go is not None:
                self._loop.call_soon(go)  # a row of them must not nest

    def _forget(self, go: Callable[[], None] | None) -> None:
        self._waiting -= go is not None


class Place:
    """Where one request stands."""

    __slots__ = ("_order", "sequence_id", "steps")

    def __init__(self, order: SequenceOrder, sequence_id: SequenceId, steps: Iterable[int]) -> None:
        """Made by `SequenceOrder.join`."""
        self._order = order
        self.sequence_id = sequence_id
        self.steps = set(steps)
        """Those that were not entered."""

    def enter(self, step: int, go: Callable[[], None]) -> None:
        """Call `go` now or when every earlier request has entered the step or has ended.

        The next one waits until `entered` is called. `go` may be called after `leave`.
        """
        self._order.enter(self, step, go)

    def entered(self, step: int) -> None:
        """Let the next request enter the step."""
        self.steps.remove(step)
        self._order.remove(self, step)

    def leave(self) -> None:
        """Enter none of the other steps. Safe to call twice."""
        while self.steps:
            self.entered(next(iter(self.steps)))
