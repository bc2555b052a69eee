"""A model version's room for frames, handed to the streams that have one waiting: a frame a turn."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from naiad.dataplane.frames.room import best_batch, room
from naiad.scheduling.admission import ServiceTimes

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.dataplane.frames.room import Capacity, Cost

FORGET_AFTER = 4_096
"""Frames after which what runs took is measured anew: sizes that were given up are tried again."""

EAGER = 32
"""So many runs are each taken into account at once; from then on,"""
EVERY = 8
"""every so many runs: averages move slowly by then, and the room is sought through all sizes."""

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
        self._times = ServiceTimes()
        self._smallest = self._largest = 0  # of the batches measured
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
            self._times = ServiceTimes()
            self._smallest = self._largest = 0
        self._times.measure(cost.items, cost.run_ns)
        self._smallest = min(self._smallest or cost.items, cost.items)
        self._largest = max(self._largest, cost.items)
        self._other_ns += (cost.other_ns - self._other_ns) * (_WEIGHT if self._other_ns else 1)
        measured = self._times.measured
        if measured <= EAGER or not measured % EVERY:
            self._measure()

    def _measure(self) -> None:
        if self._largest:
            batch = best_batch(self.capacity, self._largest, self._run_ns)
            self._room = room(self.capacity, batch, self._run_ns(batch), self._other_ns)
        else:
            self._room = self.capacity.instances

    def _run_ns(self, items: int) -> float:
        """What a batch takes; a larger one than was measured as the line through the measured ones says."""
        estimate, largest, smallest = self._times.estimate_ns, self._largest, self._smallest
        if items <= largest:
            return estimate(items)
        # Where one size alone is known, the next takes no longer: that is how it comes to be tried.
        each_ns = (estimate(largest) - estimate(smallest)) / max(1, largest - smallest)
        return estimate(largest) + each_ns * (items - largest)

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
