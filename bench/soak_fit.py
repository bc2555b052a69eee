"""From samples to a verdict: a line that a few peaks do not bend, and whether it rises. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTLING = 0.25
"""This share of the run comes first and is left out: every path has to have been taken once."""
MEBIBYTE = 2**20
_LEAST = 8
"""Samples below which no line is drawn."""
_SPARE = 4
"""Threads and files by which a quarter of the run may differ from another: a load or a call at work."""


@dataclass(frozen=True, slots=True)
class Slope:
    """How much a figure grows for each step: the median of the slopes between all pairs of samples.

    `low` and `high` are the ends of its 95 % interval.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """One thing that is wanted, what was found, and whether it is so; None: the run was too short to tell."""

    name: str
    found: str
    wanted: str
    passed: bool | None


def settled(samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The samples after the run's first quarter."""
    return list(samples[int(len(samples) * SETTLING) :])


def slope(steps: Sequence[float], figures: Sequence[float]) -> Slope | None:
    """The Theil-Sen slope of figures over steps; None for too few samples or where nothing was stepped."""
    if len(figures) < _LEAST or max(steps) == min(steps):
        return None
    from scipy.stats import theilslopes  # noqa: PLC0415  # it loads all distributions that scipy has: a second

    fit = theilslopes(np.asarray(figures, np.float64), np.asarray(steps, np.float64))
    return Slope(float(fit.slope), float(fit.low_slope), float(fit.high_slope))


def judge(samples: Sequence[dict[str, Any]], limit_mib: float) -> list[Verdict]:
    """Is memory flat, are threads and open files?

    Args:
        samples: `rss` in bytes, `threads`, `fds`, `reloads` so far and `seconds` of each, in order of time.
        limit_mib: how much resident memory may grow in 10 reloads, or a minute where nothing is reloaded.
    """
    kept = settled(samples)
    steps, unit = steps_of(kept)
    found = slope(steps, [each["rss"] / MEBIBYTE for each in kept])
    counts = (("threads", "threads"), ("fds", "open files"))
    return [
        _memory(found, limit_mib, unit),
        *(_flat(name, [each[key] for each in kept]) for key, name in counts),
    ]


def steps_of(samples: Sequence[dict[str, Any]]) -> tuple[list[float], str]:
    """What samples are laid over, tens of reloads or minutes, and one of it in words."""
    if samples and samples[-1]["reloads"] > samples[0]["reloads"]:
        return [each["reloads"] / 10 for each in samples], "in 10 reloads"
    return [each["seconds"] / 60 for each in samples], "a minute"


def _memory(found: Slope | None, limit_mib: float, unit: str) -> Verdict:
    wanted = f"<= {limit_mib:g} MiB {unit}"
    if found is None:
        return Verdict("resident memory grows", "too few samples", wanted, None)
    text = f"{found.value:+.2f} MiB ({found.low:+.2f} to {found.high:+.2f})"
    # The interval is of the samples' scatter; where the limit lies inside it, more of them would tell.
    passed = True if found.high <= limit_mib else False if found.low > limit_mib else None
    return Verdict("resident memory grows", text, wanted, passed)


def _flat(name: str, counts: Sequence[int]) -> Verdict:
    """Whether the last third's median is that of the first, but for what comes and goes."""
    third = max(1, len(counts) // 3)
    first, last = (float(np.median(part)) if len(part) else 0.0 for part in (counts[:third], counts[-third:]))
    wanted = f"no more than {_SPARE} more at the end"
    if len(counts) < _LEAST:
        return Verdict(name, "too few samples", wanted, None)
    return Verdict(name, f"{first:g}, at the end {last:g}", wanted, last <= first + _SPARE)
