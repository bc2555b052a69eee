"""A model version's room for frames, handed to the streams that have one waiting: a frame a turn."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from naiad.dataplane.frames.room import best_batch, room
from naiad.dataplane.frames.run_times import RunTimes

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.dataplane.frames.room import Capacity, Cost

FORGET_AFTER = 4_096
"""Frames after which what runs took is measured anew: sizes that were given up are tried again."""

EAGER = 32
"""So many runs are each taken into account at once; from then on,"""
EVERY = 8
"""every so many runs: averages move slowly by then, and the room is sought through all sizes."""

_TRIED = 2
"""The batch that is tried first beside what ran so far. No larger one: where that brings nothing, it is all
that is lost."""

PATIENCE = 16
"""Runs over which a larger batch must seem better before frames wait for it. What runs take wavers with what
else the machine does, and a large batch is measured while nothing else runs."""
_HASTE = 3
"""The same while each run is taken into account, or a slow model would come to its batches late."""

_WEIGHT = 1 / 16
"""Of one frame in the average of what frames take beside their run."""


class FairShare:
    """The room of one model version. Used on the event loop's thread; a turn takes constant time.

    Streams that want a turn stand in a circle. Whose turn it is picks its frame then and not before, so that
    a newer one may have come. Who has many frames gets no more turns than who has one.
    """

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        self.at_work = 0
        self._circle: deque[Seat] = deque()
        self._times = RunTimes()
        self._batch = 1
        self._larger_since: int | None = None  # how many runs were measured by then
        self._other_ns = 0.0
        # Until a run was measured: no frame waits for an instance.
        self._room = capacity.instances
        self._is_handing_out = False

    def __repr__(self) -> str:
        return f"<FairShare at_work={self.at_work}/{self._room} streams={len(self._circle)}>"

    @property
    def room(self) -> int:
        """How many frames may be at work at once."""
        return self._room

    @property
    def is_idle(self) -> bool:
        """Whether no frame is at work and none waits."""
        return not self.at_work and not self._circle

    def fit(self, capacity: Capacity) -> None:
        """The version has been loaded anew, perhaps with other instances or batches."""
        if capacity != self.capacity:
            self.capacity = capacity
            self._measure()
            self._hand_out()

    def _wait(self, seat: Seat) -> None:
        self._circle.append(seat)
        self._hand_out()

    def _leave(self, seat: Seat) -> None:
        # Of streams that end, or whose frame was too old: seldom, and few streams wait.
        self._circle.remove(seat)

    def _done(self, cost: Cost | None) -> None:
        self.at_work -= 1
        if cost is not None:
            self._count(cost)
        self._hand_out()

    def _count(self, cost: Cost) -> None:
        if self._times.measured >= FORGET_AFTER:
            self._times = RunTimes()
            self._larger_since = None
        self._times.measure(cost.items, cost.run_ns)
        self._other_ns += (cost.other_ns - self._other_ns) * (_WEIGHT if self._other_ns else 1)
        measured = self._times.measured
        if measured <= EAGER or not measured % EVERY:
            self._measure()

    def _measure(self) -> None:
        times, capacity = self._times, self.capacity
        if not times.measured:
            self._room = capacity.instances
            return
        batch = self._batch = self._patiently(best_batch(capacity, times.sizes[-1], times.estimate_ns))
        self._room = room(capacity, batch, times.estimate_ns(batch), self._other_ns)
        if len(times.sizes) == 1 and capacity.max_batch > 1:
            # Nobody knows yet what another batch brings: let two come to wait for one instance.
            self._room = max(self._room, capacity.instances + _TRIED)

    def _patiently(self, best: int) -> int:
        """The batch to have room for: a larger one than now not before it has been the best for a while."""
        if best <= self._batch:
            self._larger_since = None
            return best
        measured = self._times.measured
        if self._larger_since is None:
            self._larger_since = measured
        patience = _HASTE if measured <= EAGER else PATIENCE
        return best if measured - self._larger_since >= patience else self._batch

    def _hand_out(self) -> None:
        """Give turns while there is room; a stream that has begun a frame stands in the circle again."""
        if self._is_handing_out:  # a turn asks for another one
            return
        self._is_handing_out = True
        try:
            while self._circle and self.at_work < self._room:
                seat = self._circle.popleft()
                seat.is_waiting = False
                self.at_work += 1
                if not seat.take_turn():
                    self.at_work -= 1
        finally:
            self._is_handing_out = False


class Seat:
    """One stream's place at a share. Its owner leaves it when the stream ends."""

    __slots__ = ("is_waiting", "share", "take_turn")

    def __init__(self, share: FairShare, take_turn: Callable[[], bool]) -> None:
        """Take a seat.

        Args:
            share: the model version's.
            take_turn: begins one frame, for which `done` is called later, and asks for another turn if it
                wants one; False if it has none to begin with.
        """
        self.share = share
        self.take_turn = take_turn
        self.is_waiting = False

    def wait(self) -> None:
        """Ask for a turn; it may come at once. Once is enough."""
        if not self.is_waiting:
            self.is_waiting = True
            self.share._wait(self)  # noqa: SLF001  # the two are one part

    def leave(self) -> None:
        """Ask for no turn any more; frames at work stay so until `done`."""
        if self.is_waiting:
            self.is_waiting = False
            self.share._leave(self)  # noqa: SLF001

    def done(self, cost: Cost | None = None) -> None:
        """A frame that was begun here has its result; `cost` is what it took, where that is known."""
        self.share._done(cost)  # noqa: SLF001
