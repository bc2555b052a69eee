"""What the runs of a model version take, by the size of their batch. Pure."""

from __future__ import annotations

from bisect import bisect_left

_WEIGHT = 1 / 8
"""Of one run in the average of its size."""


class RunTimes:
    """Averages by batch size, and what sizes that have not run should take by the line through two that have.

    Not `ServiceTimes`, which says what a batch takes at least: here a size that seems quicker than it is
    would be chosen for that.
    """

    def __init__(self) -> None:
        self.measured = 0
        self._averages: dict[int, float] = {}
        self._sizes: list[int] = []  # of them, ascending

    def __repr__(self) -> str:
        shown = {size: f"{self._averages[size] / 1e6:.3f} ms" for size in self._sizes}
        return f"<RunTimes measured={self.measured} {shown}>"

    @property
    def sizes(self) -> list[int]:
        """Those that have run, ascending."""
        return self._sizes

    def measure(self, items: int, ns: int) -> None:
        """A batch of so many items took so long."""
        self.measured += 1
        average = self._averages.get(items)
        if average is None:
            self._sizes.insert(bisect_left(self._sizes, items), items)
            self._averages[items] = float(ns)
        else:
            self._averages[items] = average + _WEIGHT * (ns - average)

    def estimate_ns(self, items: int) -> float:
        """What a batch of so many items takes; 0 before anything was measured.

        Between two sizes it is the line through them, outside of all that of the smallest and the largest.
        Where one size alone has run, an item takes the same in any: no batch brings anything then.
        """
        known = self._averages.get(items)
        if known is not None:
            return known
        sizes = self._sizes
        if len(sizes) < 2:
            return sum(self._averages[size] * items / size for size in sizes)
        at = bisect_left(sizes, items)
        low, high = (sizes[at - 1], sizes[at]) if 0 < at < len(sizes) else (sizes[0], sizes[-1])
        each_ns = (self._averages[high] - self._averages[low]) / (high - low)
        nearest = low if at < len(sizes) else high
        # A larger batch is not quicker: where it was measured so, that is chance.
        return max(1.0, self._averages[nearest] + max(0.0, each_ns) * (items - nearest))
