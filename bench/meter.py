"""Clock and CPU time of this process and of another: what a window of measurement begins and ends with."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat after the command's name, which ends with the last bracket.
_UTIME, _STIME = 11, 12


class Reading(NamedTuple):
    """Nanoseconds: the monotonic clock, this process's CPU time, the other's."""

    now: int
    own_cpu: int
    other_cpu: int


def read(pid: int | None = None) -> Reading:
    """One reading; the CPU time of `pid` has the kernel's tick of 10 ms."""
    return Reading(time.perf_counter_ns(), time.process_time_ns(), _cpu_ns(pid) if pid else 0)


def _cpu_ns(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[_UTIME]) + int(fields[_STIME])) * _TICK_NS


@dataclass(frozen=True, slots=True)
class Window:
    """What was done between two readings. `latencies_us` are of the calls that ended between them."""

    count: float
    seconds: float
    own_cpu_us: float
    other_cpu_us: float
    latencies_us: list[int]

    @classmethod
    def between(
        cls, first: Reading, last: Reading, finished: Sequence[tuple[int, int]], size: int = 1
    ) -> Window:
        """Count what ran in the window; a call that reaches out of it counts with the share that lies inside.

        Batches end in bursts: counting ends would make a window of a few slow batches a matter of luck.

        Args:
            first: the window's begin.
            last: its end.
            finished: (start, end) of each call, nanoseconds of the same clock.
            size: items a call.
        """
        shares = (
            max(0, min(end, last.now) - max(start, first.now)) / max(1, end - start)
            for start, end in finished
        )
        inside = [each for each in finished if first.now <= each[1] < last.now] or finished
        return cls(
            count=sum(shares) * size,
            seconds=(last.now - first.now) / 1e9,
            own_cpu_us=(last.own_cpu - first.own_cpu) / 1e3,
            other_cpu_us=(last.other_cpu - first.other_cpu) / 1e3,
            latencies_us=[(end - start) // 1_000 for start, end in inside],
        )


def sums(outputs: dict[str, Any]) -> dict[str, float]:
    """The sum of each output: enough to tell that two processes were given the same answer."""
    return {name: float(array.astype("float64").sum()) for name, array in sorted(outputs.items())}
