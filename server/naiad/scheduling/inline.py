"""Whether a model's run is so short that handing it to a thread would take longer than the run. Pure."""

from __future__ import annotations

_SAMPLES = 16
"""Runs on threads that are looked at before one is tried inline."""

_WEIGHT = 8
"""Of the moving average of inline runs: an eighth for the newest."""

_SELDOM = 256
"""Of so many inline runs whose length by the clock shows nothing, one is measured."""

_FIRST_PAUSE = 1_024
"""Runs on threads after inline runs were found to be long; twice as many the next time."""

_LONGEST_PAUSE = 2**20

_WORTH_A_TRY = 5
"""How much longer than an inline run may be the shortest run on a thread may have taken."""

_NEVER_NS = 2**63


class InlinePace:
    """Measures runs of one request and says where the next one should happen.

    A run on a thread is measured together with its waits, for Python's lock and for a CPU. So the shortest of
    some counts, and it only says that inline runs are worth a try: those are measured as they are, by the CPU
    time of the thread that they hold up. Used on the event loop's thread.
    """

    __slots__ = ("_average_ns", "_lasted_long", "_max_ns", "_pause", "_runs", "_shortest_ns", "inline")

    def __init__(self, max_ns: int) -> None:
        """Start with runs on threads.

        Args:
            max_ns: the longest run that may happen inline, on average, in nanoseconds of CPU time.
        """
        self.inline = False
        self._max_ns = max_ns
        self._average_ns = 0
        self._lasted_long = False
        self._shortest_ns = _NEVER_NS
        self._runs = 0
        self._pause = _SAMPLES

    def __repr__(self) -> str:
        return f"<InlinePace inline={self.inline} average_ns={self._average_ns}>"

    def ran_on_thread(self, ns: int) -> None:
        """One request ran on an instance's thread."""
        if self.inline:  # such as one that waited behind a larger batch: inline runs speak for themselves
            return
        self._runs += 1
        self._shortest_ns = min(self._shortest_ns, ns)
        if self._runs >= self._pause:
            self.inline = self._shortest_ns < _WORTH_A_TRY * self._max_ns
            self._average_ns = 0
            self._runs, self._shortest_ns = 0, _NEVER_NS

    def measures_next(self) -> bool:
        """Whether the CPU time of the next inline run is to be measured, which may take longer than the run.

        That of the first ones is, of each after one that lasted long, and of one of some.
        """
        self._runs += 1
        return self._lasted_long or self._runs <= _SAMPLES or not self._runs % _SELDOM

    def lasted(self, ns: int) -> None:
        """An inline run took so long by the clock, waits included."""
        self._lasted_long = ns > self._max_ns

    def ran_inline(self, ns: int) -> None:
        """One request ran on the event loop's thread, which it took `ns` of CPU time."""
        self._average_ns += (min(ns, 2 * self._max_ns) - self._average_ns) // _WEIGHT
        if self._average_ns > self._max_ns:
            self.inline = False
            self._runs = 0
            self._pause = min(max(_FIRST_PAUSE, 2 * self._pause), _LONGEST_PAUSE)
