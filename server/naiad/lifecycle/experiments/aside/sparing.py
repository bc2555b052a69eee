"""What the serving process leaves of the CPUs: its own time comes before any budget."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LEAST_SHARE = 0.1
"""Of a budget, for the process aside however busy the server is: or nothing would ever be compared there."""

LEAST_CPUS = 0.02
"""The same in CPUs, for small budgets."""

KEPT_CPUS = 1.0
"""Left to callers, to the system and to the host of a virtual machine, beside what the server takes."""

_STEAL_FIELD = 8
"""Of /proc/stat's first line: after its name user, nice, system, idle, iowait, irq, softirq."""

_LOOK_NS = 250_000_000
_WEIGHT = 1 / 2
"""Of one look in the average, so that a pause between two requests is not taken for the end of a load."""


class SpareCpus:
    """How many CPUs are left, by what the server took lately. Times are of a monotonic clock.

    The idle class alone does not spare callers: what runs there shares caches and memory with them, and where
    a host has more virtual CPUs than CPUs, it takes them away for it.
    """

    def __init__(self, cpus: float, read_cpu_ns: Callable[[], int], *, now_ns: int) -> None:
        """Begin as if the server did nothing.

        Args:
            cpus: that the server may run on.
            read_cpu_ns: the CPU time so far that the server has used, and that nobody could use.
            now_ns: the time.
        """
        self._cpus = cpus
        self._read_cpu_ns = read_cpu_ns
        self._seen_ns, self._seen_cpu_ns = now_ns, read_cpu_ns()
        self._busy = 0.0

    def allowed(self, budget_cpus: float, now_ns: int) -> float:
        """What may be taken of a budget now, in CPUs: never nothing, and never more than the budget."""
        passed_ns = now_ns - self._seen_ns
        if passed_ns >= _LOOK_NS:
            cpu_ns = self._read_cpu_ns()
            self._busy += _WEIGHT * ((cpu_ns - self._seen_cpu_ns) / passed_ns - self._busy)
            self._seen_ns, self._seen_cpu_ns = now_ns, cpu_ns
        left = self._cpus - KEPT_CPUS - self._busy
        return min(budget_cpus, max(left, LEAST_SHARE * budget_cpus, LEAST_CPUS))


def taken_cpu_ns() -> int:
    """The CPU time that this process has used, and that the host of this virtual machine kept to itself."""
    return time.process_time_ns() + _stolen_ns()


def _stolen_ns() -> int:
    try:
        with Path("/proc/stat").open("rb") as file:
            fields = file.readline().split()
        return int(fields[_STEAL_FIELD]) * 10**9 // os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):  # no Linux, or one that does not tell
        return 0
