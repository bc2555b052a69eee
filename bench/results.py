"""From windows to figures: medians over rounds, percentiles, ratios to the limit. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np


@dataclass(slots=True)
class Series:
    """One way of calling one case, measured once a round.

    `bare` series run without a server; the best of those with `is_limit` is what all are compared to.
    """

    case: str
    caller: str
    in_flight: int
    bare: bool
    is_limit: bool = False
    rates: list[float] = field(default_factory=list)
    latencies_us: list[int] = field(default_factory=list)
    batches: list[float] = field(default_factory=list)
    server_cpu_us: list[float] = field(default_factory=list)
    caller_cpu_us: list[float] = field(default_factory=list)

    def add(self, window: dict[str, Any]) -> None:
        """Count one more round: a `meter.Window` as a dict, of the load also with `average_batch`."""
        count = window["count"]
        self.rates.append(window["count"] / window["seconds"])
        self.latencies_us += window["latencies_us"]
        self.caller_cpu_us.append(window["own_cpu_us"] / count)
        if not self.bare:
            self.batches.append(window["average_batch"])
            self.server_cpu_us.append(window["other_cpu_us"] / count)


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one series.

    `requests_per_s` is the median of the rounds, `spread` the rounds' range as a share of it. Percentiles are
    of all rounds together. `ratio` is the median of the rounds' ratios to the limit of the same round. CPU
    times are those of the server and of the calling process, a request; `cpu_ratio` is the limit's CPU time a
    request as a share of the server's, which other work on the machine disturbs least.
    """

    case: str
    caller: str
    in_flight: int
    bare: bool
    requests: int
    requests_per_s: float
    spread: float
    p50_ms: float
    p99_ms: float
    average_batch: float | None
    server_cpu_us: float | None
    caller_cpu_us: float
    ratio: float
    cpu_ratio: float | None


def summarise(series: list[Series]) -> list[Row]:
    """One row a series, in order. All have the same rounds, and each case has series that are the limit."""
    return [
        _row(each, [other for other in series if other.is_limit and other.case == each.case])
        for each in series
    ]


def _row(series: Series, limits: list[Series]) -> Row:
    fastest = [max(rates) for rates in zip(*(limit.rates for limit in limits), strict=True)]
    cheapest = [min(times) for times in zip(*(limit.caller_cpu_us for limit in limits), strict=True)]
    rate = median(series.rates)
    p50, p99 = (float(value) / 1e3 for value in np.percentile(series.latencies_us, [50, 99]))
    return Row(
        case=series.case,
        caller=series.caller,
        in_flight=series.in_flight,
        bare=series.bare,
        requests=len(series.latencies_us),
        requests_per_s=rate,
        spread=(max(series.rates) - min(series.rates)) / rate,
        p50_ms=p50,
        p99_ms=p99,
        average_batch=median(series.batches) if series.batches else None,
        server_cpu_us=median(series.server_cpu_us) if series.server_cpu_us else None,
        caller_cpu_us=median(series.caller_cpu_us),
        ratio=_median_ratio(series.rates, fastest),
        cpu_ratio=None if series.bare else _median_ratio(cheapest, series.server_cpu_us),
    )


def _median_ratio(upper: list[float], lower: list[float]) -> float:
    """Of the ratios round by round; a CPU time below the kernel's tick counts as next to nothing."""
    return median(above / max(below, 1e-9) for above, below in zip(upper, lower, strict=True))
