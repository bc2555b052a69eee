"""Quantiles of a stream over a sliding window, in bounded memory: a DDSketch for each part of the window."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WINDOW_NS = 60 * 10**9
"""How far back the quantiles look, as Triton's do."""

PARTS = 5
"""The window forgets a fifth of itself at a time."""

RELATIVE_ERROR = 0.01
"""The most by which a quantile differs from a value of that rank."""

_SMALLEST, _LARGEST = 1_000, 3_600 * 10**9
"""What is shorter than a microsecond or longer than an hour counts as that: 1,101 buckets at most."""

_PART_NS = WINDOW_NS // PARTS
_GAMMA = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_PER_LOG = 1 / math.log(_GAMMA)


class SlidingQuantiles:
    """Counts durations in buckets that each reach two hundredths further than the one before.

    That is DDSketch (Masson, Rim, Lee, 2019): whatever the distribution, a quantile is within
    `RELATIVE_ERROR` of the value that has its rank. Five parts of 12 s make the window; the oldest is
    dropped whole.
    """

    __slots__ = ("_epochs", "_parts")

    def __init__(self) -> None:
        self._parts: list[dict[int, int]] = [{} for _ in range(PARTS)]
        self._epochs = [-1] * PARTS

    def add(self, ns: int, now_ns: int) -> None:
        """Count a duration that ended at `now_ns` of a monotonic clock."""
        epoch = now_ns // _PART_NS
        slot = epoch % PARTS
        if self._epochs[slot] != epoch:
            self._epochs[slot] = epoch
            self._parts[slot] = {}
        part = self._parts[slot]
        clamped = _SMALLEST if ns < _SMALLEST else min(ns, _LARGEST)
        bucket = math.ceil(math.log(clamped) * _PER_LOG)
        part[bucket] = part.get(bucket, 0) + 1

    def read(self, quantiles: Sequence[float], now_ns: int) -> list[float]:
        """The value at each quantile (0 to 1) in nanoseconds; NaN for each when the window is empty."""
        buckets = self._merged(now_ns)
        return [_value_at(buckets, quantile) for quantile in quantiles]

    def _merged(self, now_ns: int) -> list[tuple[int, int]]:
        """(bucket, how many) of the whole window, ascending."""
        oldest = now_ns // _PART_NS - PARTS
        merged: dict[int, int] = {}
        for epoch, part in zip(self._epochs, self._parts, strict=True):
            if epoch > oldest:
                for bucket, count in part.items():
                    merged[bucket] = merged.get(bucket, 0) + count
        return sorted(merged.items())


def _value_at(buckets: list[tuple[int, int]], quantile: float) -> float:
    rank = quantile * (sum(count for _, count in buckets) - 1)
    seen = 0
    for bucket, count in buckets:
        seen += count
        if seen > rank:
            # The middle of the bucket in the sense of the relative error.
            return float(2 * _GAMMA**bucket / (_GAMMA + 1))
    return math.nan
