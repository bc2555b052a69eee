"""The waiting requests of one model version: by priority level, in order, with cheap removal and expiry."""

from __future__ import annotations

from bisect import insort
from collections import OrderedDict
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from naiad.config.model_config import TimeoutAction
from naiad.scheduling.admission import Ahead
from naiad.scheduling.deadlines import Deadlines
from naiad.scheduling.policies import PriorityLevels, queue_timeout_us

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Hashable, Iterator

    from naiad.config.model_config import QueuePolicy
    from naiad.core.tensors import InferRequest, InferResponse
    from naiad.scheduling.sequence.table import LiveSequence


class PendingRequest:
    """A request, the future that its caller awaits, and what decisions about it read.

    `feed` is the request as it is run: with the control tensors and states of a sequence, else the request
    itself. `arrived_ns` is when the caller came, `enqueued_ns` when it entered the queue that batches are
    formed of; they differ for requests of sequences. `waiting` is True until it is run or has left.
    """

    __slots__ = (
        "arrived_ns",
        "batch_size",
        "deadline_ns",
        "enqueued_ns",
        "feed",
        "future",
        "level",
        "request",
        "sequence",
        "shape_key",
        "ticket",
        "waiting",
    )

    def __init__(
        self,
        request: InferRequest,
        future: asyncio.Future[InferResponse],
        *,
        arrived_ns: int,
        shape_key: Hashable = None,
    ) -> None:
        self.request = request
        self.feed = request
        self.future = future
        self.shape_key = shape_key
        self.batch_size = request.batch_size
        self.arrived_ns = arrived_ns
        self.enqueued_ns = arrived_ns
        self.deadline_ns = request.deadline_ns
        self.waiting = True
        self.sequence: LiveSequence | None = None
        self.level = 0
        self.ticket = 0

    def __repr__(self) -> str:
        return f"<PendingRequest {self.request.request_id!r} {'waiting' if self.waiting else 'gone'}>"


class FullLevel(NamedTuple):
    """A priority level, how many requests wait there, and how many may."""

    level: int
    waiting: int
    limit: int


class RequestQueue:
    """First in, first out within a priority level, level 1 first, with removal from the middle.

    A request whose policy says so moves behind those of its level when its timeout has passed. The queue
    belongs to the event loop's thread.
    """

    def __init__(self, levels: PriorityLevels | None = None) -> None:
        self._priorities = levels or PriorityLevels()
        self._levels: dict[int, _Level] = {}
        self._order: list[int] = []  # of the levels that were ever used; as many as requests can wait at most
        self._timeouts: Deadlines[PendingRequest] = Deadlines(self._is_due)
        self._size = 0
        self._next_ticket = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[PendingRequest]:
        for level in self._order:
            yield from self._levels[level]

    def full_level(self, request: InferRequest) -> FullLevel | None:
        """The level of the request, if as many wait there as its policy allows; else None."""
        number = self._priorities.level(request.priority)
        level = self._levels.get(number)
        if level is None or not level.policy.max_queue_size or len(level) < level.policy.max_queue_size:
            return None
        return FullLevel(number, len(level), level.policy.max_queue_size)

    def ahead(self, request: InferRequest) -> Ahead:
        """What would leave before the request, if it came now.

        Requests that a policy has moved back are not counted: those of its own level leave after it.
        """
        number = self._priorities.level(request.priority)
        requests = items = 0
        for each in self._order:
            if each > number:
                break
            level = self._levels[each]
            requests += len(level.fresh)
            items += level.fresh_items
        return Ahead(requests, items)

    def timeout_ns(self, request: InferRequest) -> int | None:
        """How long the request may wait before its policy rejects it; None for as long as its caller does."""
        policy = self._priorities.policy(self._priorities.level(request.priority))
        if not policy.default_timeout_us or policy.timeout_action is not TimeoutAction.REJECT:
            return None
        return queue_timeout_us(policy, request) * 1_000

    def push(self, pending: PendingRequest) -> None:
        """Add at the end of its level; its policy's timeout counts from its `enqueued_ns`."""
        self._next_ticket += 1
        pending.ticket = self._next_ticket
        pending.level = number = self._priorities.level(pending.request.priority)
        level = self._levels.get(number)
        if level is None:
            self._forget_empty_levels()
            level = self._levels[number] = _Level(self._priorities.policy(number))
            insort(self._order, number)
        level.fresh[pending.ticket] = pending
        level.fresh_items += pending.batch_size
        self._size += 1
        if level.policy.default_timeout_us:
            timeout_us = queue_timeout_us(level.policy, pending.request)
            self._timeouts.push(pending.enqueued_ns + timeout_us * 1_000, pending)

    def pop(self, count: int) -> list[PendingRequest]:
        """Take the first `count`."""
        taken: list[PendingRequest] = []
        for level in self._order:
            waiting = self._levels[level]
            while len(taken) < count and waiting:
                taken.append(waiting.popleft())
        self._size -= len(taken)
        return taken

    def discard(self, pending: PendingRequest) -> bool:
        """Take one out; False if it is not in the queue."""
        level = self._levels.get(pending.level)
        if level is None or not level.discard(pending.ticket):
            return False
        self._size -= 1
        return True

    def pop_timed_out(self, now_ns: int) -> list[PendingRequest]:
        """Apply the policies: take out what is to be rejected, move back what is to be delayed."""
        rejected = []
        for pending in self._timeouts.pop_due(now_ns):
            level = self._levels[pending.level]
            if level.policy.timeout_action is TimeoutAction.DELAY:
                level.delay(pending.ticket)
            else:
                self.discard(pending)
                rejected.append(pending)
        return rejected

    def next_timeout_ns(self) -> int | None:
        """When the next policy's timeout of a waiting request passes, or None."""
        return self._timeouts.next_ns()

    def clear(self) -> list[PendingRequest]:
        """Take out everything."""
        return self.pop(self._size)

    def _is_due(self, pending: PendingRequest) -> bool:
        level = self._levels.get(pending.level)
        return level is not None and pending.ticket in level.fresh

    def _forget_empty_levels(self) -> None:
        """A caller may name any of many levels: those that stand empty go when another one comes."""
        self._order = [level for level in self._order if self._levels[level]]
        self._levels = {level: self._levels[level] for level in self._order}


class _Level:
    """The requests of one level: those within their timeout, then those past it."""

    __slots__ = ("delayed", "fresh", "fresh_items", "policy")

    def __init__(self, policy: QueuePolicy) -> None:
        self.policy = policy
        self.fresh: OrderedDict[int, PendingRequest] = OrderedDict()
        self.fresh_items = 0  # batch items of `fresh`
        self.delayed: OrderedDict[int, PendingRequest] = OrderedDict()

    def __len__(self) -> int:
        return len(self.fresh) + len(self.delayed)

    def __iter__(self) -> Iterator[PendingRequest]:
        return chain(self.fresh.values(), self.delayed.values())

    def popleft(self) -> PendingRequest:
        if not self.fresh:
            return self.delayed.popitem(last=False)[1]
        pending = self.fresh.popitem(last=False)[1]
        self.fresh_items -= pending.batch_size
        return pending

    def discard(self, ticket: int) -> bool:
        pending = self.fresh.pop(ticket, None)
        if pending is None:
            return self.delayed.pop(ticket, None) is not None
        self.fresh_items -= pending.batch_size
        return True

    def delay(self, ticket: int) -> None:
        pending = self.delayed[ticket] = self.fresh.pop(ticket)
        self.fresh_items -= pending.batch_size
