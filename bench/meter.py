"""Clock, CPU time and memory, of this process and of a server: what a measurement begins and ends with."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat after the command's name, which ends with the last bracket: user and system time of
# the process, and of its children that have ended.
_CPU_TIMES = slice(11, 15)


class Reading(NamedTuple):
    """Nanoseconds: the monotonic clock, this process's CPU time, the other's with its descendants."""

    now: int
    own_cpu: int
    other_cpu: int


def read(pid: int | None = None) -> Reading:
    """One reading; the CPU time of `pid` has the kernel's tick of 10 ms."""
    return Reading(time.perf_counter_ns(), time.process_time_ns(), tree_cpu_ns(pid) if pid else 0)


def tree_cpu_ns(pid: int) -> int:
    """CPU time of a process and its descendants, also those that have ended; 0 for a process that is gone."""
    return sum(_cpu_ns(each) for each in tree(pid))


def tree_memory_mib(pid: int) -> float:
    """Resident memory of a process and its descendants, MiB.

    Pages that several processes share count once, in parts (PSS): the workers of one server map the same
    libraries.
    """
    return sum(_pss_kib(each) for each in tree(pid)) / 1024


def tree(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _text(path).split():
            yield from tree(int(child))


def _cpu_ns(pid: int) -> int:
    fields = _text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(map(int, fields[_CPU_TIMES])) * _TICK_NS


def _pss_kib(pid: int) -> int:
    lines = _text(Path(f"/proc/{pid}/smaps_rollup")).splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def _text(path: Path) -> str:
    """The file's text, nothing for a process that has ended meanwhile."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return ""


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
