"""Sessions of known speed and a clock that only their runs advance, each thread's for itself."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
from support.sessions import DoublingSession

from naiad.core.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from naiad.core.tensors import Array, Tensors

FEEDS = {"INPUT0": np.zeros((1, 2), np.float32)}


class ThreadTime:
    """Virtual time: threads that work beside each other advance it once, not one after the other.

    The thread that makes it is the one that measures. What that reads is the time of the thread that is
    furthest; other threads begin at what it read last.
    """

    def __init__(self) -> None:
        self._owner = threading.get_ident()
        self._lock = threading.Lock()
        self._read = self._latest = 1_000_000_000
        self._local = threading.local()

    def now_ns(self) -> int:
        """This thread's time."""
        if threading.get_ident() == self._owner:
            with self._lock:
                self._read = self._latest
            return self._read
        return max(self._read, getattr(self._local, "now", 0))

    def spend(self, ns: float) -> None:
        """Let this thread work for so long."""
        now = self.now_ns() + int(ns)
        self._local.now = now
        with self._lock:
            self._latest = max(self._latest, now)


class TimedSession(DoublingSession):
    """Doubles, and takes so much virtual time for it; `breaks` makes its runs fail."""

    def __init__(self, clock: ThreadTime, run_ns: float, *, breaks: bool = False) -> None:
        super().__init__()
        self._clock, self._run_ns, self._breaks = clock, run_ns, breaks

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        """Double, later."""
        if self._breaks:
            raise InternalError("the run broke")
        self._clock.spend(self._run_ns)
        return super().run(inputs, outputs)


class Workshop:
    """Opens sessions whose run takes what `run_ns` says for a number of instances, and keeps them in view."""

    def __init__(self, clock: ThreadTime, run_ns: Mapping[int, float], *, open_ns: float = 0) -> None:
        self.opened: dict[int, TimedSession] = {}
        self.most_open = 0
        self._clock, self._run_ns, self._open_ns = clock, run_ns, open_ns

    def open(self, instances: int) -> TimedSession:
        """A session for so many instances."""
        self._clock.spend(self._open_ns)
        session = self.opened[instances] = TimedSession(self._clock, self._run_ns[instances])
        self.most_open = max(self.most_open, sum(not each.closed for each in self.opened.values()))
        return session
