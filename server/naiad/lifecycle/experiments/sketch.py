"""What is kept of values that come one at a time: moments, and a histogram for quantiles. Pure."""

from __future__ import annotations

import math
from math import log as _log
from typing import TYPE_CHECKING

from naiad.lifecycle.experiments.sequences import Summary

if TYPE_CHECKING:
    from collections.abc import Sequence

RELATIVE_ERROR = 0.01
"""The most by which a quantile differs from a value of that rank, within the limits below."""
SHORTEST_S, LONGEST_S = 1e-6, 3_600.0
"""What is shorter or longer counts as that, in quantiles and in means."""

_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_PER_LOG = 1 / math.log(_GAMMA)
_OFFSET = -math.log(SHORTEST_S) * _PER_LOG
_BUCKETS = math.ceil(math.log(LONGEST_S) * _PER_LOG + _OFFSET) + 1


class Moments:
    """Count, mean and variance of finite values; others must not be added."""

    __slots__ = ("_origin", "_squares", "_sum", "count")

    def __init__(self) -> None:
        self.count = 0
        # Sums are of distances from the first value: squares of large values that differ little would cancel.
        self._origin = 0.0
        self._sum = 0.0
        self._squares = 0.0

    @classmethod
    def of(cls, count: int, total: float, squares: float) -> Moments:
        """Of values of which only the count, the sum and the sum of squares are known."""
        moments = cls()
        moments.count, moments._sum, moments._squares = count, total, squares
        return moments

    def add(self, value: float) -> None:
        """Count a value."""
        if not self.count:
            self._origin = value
        self.count += 1
        distance = value - self._origin
        self._sum += distance
        self._squares += distance * distance

    @property
    def mean(self) -> float:
        """Of all values; NaN of none."""
        return self._origin + self._sum / self.count if self.count else math.nan

    @property
    def total(self) -> float:
        """The sum of all values."""
        return self._origin * self.count + self._sum

    @property
    def variance(self) -> float:
        """The sample's; 0 of fewer than two values."""
        if self.count < 2:
            return 0.0
        return max(0.0, self._squares - self._sum * self._sum / self.count) / (self.count - 1)

    @property
    def summary(self) -> Summary:
        """For `sequences`."""
        return Summary(self.count, self.mean, self.variance)

    def merge(self, other: Moments) -> None:
        """Take in what another one saw."""
        if not self.count:
            self._origin = other._origin
        shift = other._origin - self._origin
        self._squares += other._squares + 2 * shift * other._sum + other.count * shift * shift
        self._sum += other._sum + other.count * shift
        self.count += other.count


class Durations:
    """Durations: the moments of their logarithms (of seconds), and a histogram of fixed logarithmic buckets.

    Buckets are DDSketch's (Masson, Rim, Lee, 2019), as in `telemetry/quantiles.py`, which forgets; this does
    not.
    """

    __slots__ = ("_buckets", "_count", "_squares", "_sum")

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS
        # Not a `Moments`: each request that is answered comes by here, and a call costs as much as all the
        # rest.
        self._count = 0
        self._sum = 0.0
        self._squares = 0.0

    @classmethod
    def of(cls, logs: Moments) -> Durations:
        """Of durations of which only the moments of their logarithms are known; they have no quantiles."""
        durations = cls()
        durations._count, durations._sum = logs.count, logs.total
        durations._squares = logs.variance * max(0, logs.count - 1) + logs.total**2 / max(1, logs.count)
        return durations

    def add(self, seconds: float) -> None:
        """Count a duration."""
        if not SHORTEST_S <= seconds <= LONGEST_S:
            seconds = LONGEST_S if seconds > LONGEST_S else SHORTEST_S
        log = _log(seconds)
        self._count += 1
        self._sum += log
        self._squares += log * log
        self._buckets[int(log * _PER_LOG + _OFFSET)] += 1

    @property
    def logs(self) -> Moments:
        """Of the durations' logarithms."""
        return Moments.of(self._count, self._sum, self._squares)

    @property
    def typical_s(self) -> float:
        """The geometric mean in seconds; NaN of none."""
        return math.exp(self.logs.mean)

    def quantiles(self, wanted: Sequence[float]) -> list[float]:
        """The value at each quantile (0 to 1) in seconds; NaN for each when there are none."""
        if not self._count:
            return [math.nan] * len(wanted)
        return [self._value_at(quantile * (self._count - 1)) for quantile in wanted]

    def merge(self, other: Durations) -> None:
        """Take in what another one saw."""
        self._count += other._count
        self._sum += other._sum
        self._squares += other._squares
        self._buckets = [mine + theirs for mine, theirs in zip(self._buckets, other._buckets, strict=True)]

    def _value_at(self, rank: float) -> float:
        seen = 0
        for bucket, count in enumerate(self._buckets):
            seen += count
            if seen > rank:
                # The bucket reaches from GAMMA^bucket to GAMMA^(bucket + 1); this is its middle in the
                # relative sense.
                return SHORTEST_S * _GAMMA**bucket * 2 * _GAMMA / (1 + _GAMMA)
        return math.nan
