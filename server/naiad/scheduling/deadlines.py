"""Points in time at which something waiting is due; what no longer waits is forgotten by itself. Pure."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Item = TypeVar("Item")

_SLACK = 64
"""How many entries of items that have left may lie in the heap beyond twice those that wait."""


class Deadlines(Generic[Item]):
    """A heap of (time, item). An entry whose item no longer waits is dropped when it comes to the top.

    It belongs to the event loop's thread.
    """

    def __init__(self, is_waiting: Callable[[Item], bool]) -> None:
        """Start empty.

        Args:
            is_waiting: whether an item still waits; what is False once stays False.
        """
        self._is_waiting = is_waiting
        self._heap: list[tuple[int, int, Item]] = []
        self._count = 0
        self._swept = _SLACK

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, when_ns: int, item: Item) -> None:
        """Let the item be due at `when_ns`, on the monotonic clock."""
        self._count += 1  # keeps the order of equal times, and items need no order of their own
        heapq.heappush(self._heap, (when_ns, self._count, item))
        if len(self._heap) > self._swept:
            self._heap = [entry for entry in self._heap if self._is_waiting(entry[2])]
            heapq.heapify(self._heap)
            self._swept = 2 * len(self._heap) + _SLACK

    def pop_due(self, now_ns: int) -> list[Item]:
        """Take out every waiting item whose time is not after `now_ns`, earliest first."""
        due: list[Item] = []
        while self._heap and self._heap[0][0] <= now_ns:
            item = heapq.heappop(self._heap)[2]
            if self._is_waiting(item):
                due.append(item)
        return due

    def next_ns(self) -> int | None:
        """The nearest time of a waiting item, or None."""
        while self._heap and not self._is_waiting(self._heap[0][2]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None


def earliest(left_ns: int | None, right_ns: int | None) -> int | None:
    """The first of two times, either of which may be none."""
    if left_ns is None:
        return right_ns
    return left_ns if right_ns is None or left_ns < right_ns else right_ns
