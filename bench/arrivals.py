"""When the requests of an open loop are due, and what a set of latencies comes to. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


class Percentiles(NamedTuple):
    """Of one set of latencies, in its unit."""

    p50: float
    p90: float
    p95: float
    p99: float


def percentiles(values: Sequence[float]) -> Percentiles:
    """The percentiles of some values; not a number where there are none."""
    if not values:
        return Percentiles(*[float("nan")] * 4)
    return Percentiles(*(float(value) for value in np.percentile(values, [50, 90, 95, 99])))


def poisson_offsets_ns(rate: float, seconds: float, seed: int) -> list[int]:
    """Send times of independent callers: gaps of an exponential distribution, nanoseconds from the start.

    Args:
        rate: requests a second on average.
        seconds: no request is due later than that.
        seed: the same seed gives the same times, so that every server is asked at the same moments.
    """
    random = np.random.default_rng(seed)
    times: list[float] = []
    now = 0.0
    while now < seconds:
        gaps = random.exponential(1.0 / rate, max(16, round(rate * seconds)))
        arrivals = now + np.cumsum(gaps)
        times += arrivals[arrivals < seconds].tolist()
        now = float(arrivals[-1])
    return [round(time * 1e9) for time in times]
