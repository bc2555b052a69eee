"""The waiting requests of one model version: in order, with cheap removal and expiry."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Hashable, Iterator

    from naiad.core.tensors import InferRequest, InferResponse


_SLACK = 64
"""How many deadlines of requests that have left may lie in the heap beyond twice those that wait."""


class PendingRequest:
    """A request, the future that its caller awaits, and what the batch decision reads."""

    __slots__ = ("batch_size", "deadline_ns", "enqueued_ns", "future", "request", "shape_key", "ticket")

    def __init__(
        self,
        request: InferRequest,
        future: asyncio.Future[InferResponse],
        *,
        shape_key: Hashable,
        enqueued_ns: int,
    ) -> None:
        self.request = request
        self.future = future
        self.shape_key = shape_key
        self.batch_size = request.batch_size
        self.enqueued_ns = enqueued_ns
        self.deadline_ns = request.deadline_ns
        self.ticket = 0


class RequestQueue:
    """First in, first out, with removal from the middle.

    It belongs to the event loop's thread. Deadlines lie in a heap beside the queue; an entry whose request
    has left is dropped when it comes to the top.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[int, PendingRequest] = OrderedDict()
        self._deadlines: list[tuple[int, int]] = []
        self._next_ticket = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[PendingRequest]:
        return iter(self._waiting.values())

    def push(self, pending: PendingRequest) -> None:
        """Add at the end."""
        self._next_ticket += 1
        pending.ticket = self._next_ticket
        self._waiting[pending.ticket] = pending
        if pending.deadline_ns is not None:
            heapq.heappush(self._deadlines, (pending.deadline_ns, pending.ticket))

    def pop(self, count: int) -> list[PendingRequest]:
        """Take the `count` oldest."""
        return [self._waiting.popitem(last=False)[1] for _ in range(count)]

    def discard(self, pending: PendingRequest) -> bool:
        """Take one out; False if it is no longer waiting."""
        found = self._waiting.pop(pending.ticket, None) is not None
        if len(self._deadlines) > 2 * len(self._waiting) + _SLACK:
            self._deadlines = [entry for entry in self._deadlines if entry[1] in self._waiting]
            heapq.heapify(self._deadlines)
        return found

    def pop_expired(self, now_ns: int) -> list[PendingRequest]:
        """Take out every request whose deadline is not after `now_ns`."""
        expired = []
        while self._deadlines and self._deadlines[0][0] <= now_ns:
            _, ticket = heapq.heappop(self._deadlines)
            pending = self._waiting.pop(ticket, None)
            if pending is not None:
                expired.append(pending)
        return expired

    def next_deadline_ns(self) -> int | None:
        """The nearest deadline of a waiting request, or None."""
        while self._deadlines and self._deadlines[0][1] not in self._waiting:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def clear(self) -> list[PendingRequest]:
        """Take out everything."""
        everything = list(self._waiting.values())
        self._waiting.clear()
        self._deadlines.clear()
        return everything
