"""Which sequences live, which have a slot, which wait for one: changes by (state, now) alone. Pure."""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, NamedTuple

from naiad.core.errors import InvalidArgumentError
from naiad.scheduling.deadlines import Deadlines, earliest

if TYPE_CHECKING:
    from naiad.core.tensors import Array
    from naiad.scheduling.queue import PendingRequest


class Slot(NamedTuple):
    """A place for one sequence: a row of the batches of a group of instances."""

    row: int
    group: int


class LiveSequence:
    """One sequence: what waits, what runs (at most one request), and its states.

    `slot` is None while it waits in the backlog; `states` are the inputs of its next request.
    """

    __slots__ = ("id", "running", "slot", "states", "waiting")

    def __init__(self, sequence_id: int | str) -> None:
        self.id = sequence_id
        self.slot: Slot | None = None
        self.waiting: deque[PendingRequest] = deque()
        self.running: PendingRequest | None = None
        self.states: dict[str, Array] | None = None

    def __repr__(self) -> str:
        return f"<LiveSequence {self.id!r} slot={self.slot} waiting={len(self.waiting)}>"


class SequenceTable:
    """The sequences of one model version. It belongs to the event loop's thread.

    A sequence is open until its END has come, it was idle for too long, or one of its requests left without
    having been run; then its id is free for another. It keeps its slot until its last request is done.
    `ready` has, for each group, the sequences by row that have a slot and a request which could run now.
    """

    def __init__(self, *, model: str, groups: int, rows: int, max_idle_ns: int) -> None:
        """Start with every slot free.

        Args:
            model: the model's name, for errors.
            groups: groups of slots; a sequence stays in its group.
            rows: slots of each group.
            max_idle_ns: how long a sequence may have neither a waiting nor a running request.
        """
        self.ready: list[dict[int, LiveSequence]] = [{} for _ in range(groups)]
        self.waiting = 0
        self._model = model
        self._rows = rows
        self._max_idle_ns = max_idle_ns
        self._live: dict[LiveSequence, None] = {}
        self._open: dict[int | str, LiveSequence] = {}
        self._backlog: OrderedDict[LiveSequence, None] = OrderedDict()
        self._timeouts: Deadlines[LiveSequence] = Deadlines(self._backlog.__contains__)
        self._idle: OrderedDict[LiveSequence, int] = OrderedDict()  # since when; the longest first
        self._free: list[Slot] = []
        self._fresh = 0  # slots that were ever taken: there may be more than anybody will use

    def admit(self, pending: PendingRequest, now_ns: int) -> bool:
        """Add a request to its sequence, or start one; a sequence without a slot gets one if one is free.

        Returns:
            False if it starts a sequence whose id was in use: the earlier sequence ends before it.

        Raises:
            InvalidArgumentError: it neither starts a sequence nor belongs to an open one.
        """
        request = pending.request
        sequence = self._open.get(request.sequence_id)
        new = sequence is None
        if sequence is None:
            if not request.sequence_start:
                raise InvalidArgumentError(
                    f"inference request for sequence {request.sequence_id} to model '{self._model}' must "
                    "specify the START flag on the first request of the sequence"
                )
            sequence = self._begin(request.sequence_id)
        pending.sequence = sequence
        sequence.waiting.append(pending)
        self.waiting += 1
        if request.sequence_end:
            del self._open[sequence.id]
        if sequence.slot is None and request.timeout_us:
            self._timeouts.push(now_ns + request.timeout_us * 1_000, sequence)
        self._settle(sequence, now_ns)
        return new or not request.sequence_start

    def take(self, sequence: LiveSequence) -> PendingRequest:
        """The next request of a ready sequence, which runs from now on."""
        pending = sequence.running = sequence.waiting.popleft()
        self.waiting -= 1
        assert sequence.slot is not None
        del self.ready[sequence.slot.group][sequence.slot.row]
        return pending

    def finish(self, sequence: LiveSequence, now_ns: int) -> None:
        """The request that ran is done."""
        sequence.running = None
        self._settle(sequence, now_ns)

    def withdraw(self, pending: PendingRequest, now_ns: int) -> list[PendingRequest]:
        """Take out a request that will not be run.

        Returns:
            the later requests of the same sequence, up to one that starts another: they are taken out too,
            because what they would run on is gone.
        """
        sequence = pending.sequence
        assert sequence is not None
        waiting = list(sequence.waiting)
        if sequence.running is pending:
            sequence.running = None
            index = after = 0
        else:
            index = waiting.index(pending)
            after = index + 1
        starts = (at for at in range(after, len(waiting)) if waiting[at].request.sequence_start)
        restart = next(starts, None)
        if restart is None:
            self._close(sequence)
            restart = len(waiting)
        sequence.waiting = deque((*waiting[:index], *waiting[restart:]))
        self.waiting -= restart - index
        self._settle(sequence, now_ns)
        return waiting[after:restart]

    def pop_timed_out(self, now_ns: int) -> list[PendingRequest]:
        """Take out all requests of the sequences whose timeout passed in the backlog."""
        expired: list[PendingRequest] = []
        for sequence in self._timeouts.pop_due(now_ns):
            if sequence in self._backlog:  # once, however many of its requests have a timeout
                expired += self._drop(sequence, now_ns)
        return expired

    def pop_idle(self, now_ns: int) -> list[LiveSequence]:
        """End the sequences that were idle for too long; their slots go to the backlog."""
        ended: list[LiveSequence] = []
        while self._idle:
            sequence, since_ns = next(iter(self._idle.items()))
            if now_ns < since_ns + self._max_idle_ns:
                break
            self._close(sequence)
            self._settle(sequence, now_ns)
            ended.append(sequence)
        return ended

    def next_ns(self) -> int | None:
        """When `pop_timed_out` or `pop_idle` will next have something, unless more comes."""
        idle_ns = next(iter(self._idle.values())) + self._max_idle_ns if self._idle else None
        return earliest(idle_ns, self._timeouts.next_ns())

    def clear(self) -> list[PendingRequest]:
        """Take out everything that waits. Nothing may be admitted after it."""
        return [pending for sequence in list(self._live) for pending in self._drop(sequence, 0)]

    def _begin(self, sequence_id: int | str) -> LiveSequence:
        sequence = self._open[sequence_id] = LiveSequence(sequence_id)
        self._live[sequence] = None
        if self._free:
            sequence.slot = heapq.heappop(self._free)
        elif self._fresh < len(self.ready) * self._rows:
            sequence.slot = Slot(*divmod(self._fresh, len(self.ready)))
            self._fresh += 1
        else:
            self._backlog[sequence] = None
        return sequence

    def _close(self, sequence: LiveSequence) -> None:
        """Its id is free for another; what it still has is run."""
        if self._open.get(sequence.id) is sequence:
            del self._open[sequence.id]

    def _drop(self, sequence: LiveSequence, now_ns: int) -> list[PendingRequest]:
        dropped = list(sequence.waiting)
        sequence.waiting.clear()
        self.waiting -= len(dropped)
        self._close(sequence)
        self._settle(sequence, now_ns)
        return dropped

    def _settle(self, sequence: LiveSequence, now_ns: int) -> None:
        """Put a sequence where it belongs after a change: ready, idle, or out."""
        self._idle.pop(sequence, None)
        slot = sequence.slot
        if slot is not None:
            self.ready[slot.group].pop(slot.row, None)
        if sequence.running is not None:
            return
        if sequence.waiting:
            if slot is not None:
                self.ready[slot.group][slot.row] = sequence
        elif self._open.get(sequence.id) is sequence:
            self._idle[sequence] = now_ns
        else:
            self._release(sequence, now_ns)

    def _release(self, sequence: LiveSequence, now_ns: int) -> None:
        """Let a sequence go; its slot is for the one that has waited longest."""
        del self._live[sequence]
        self._backlog.pop(sequence, None)
        slot, sequence.slot = sequence.slot, None
        if slot is None:
            return
        if not self._backlog:
            heapq.heappush(self._free, slot)
            return
        heir, _ = self._backlog.popitem(last=False)
        heir.slot = slot
        self._settle(heir, now_ns)
