"""The machine's CPU and memory, read from /proc as Triton reads them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


class CpuReading(NamedTuple):
    """`utilization` 0 to 1 since the reading before; memory in bytes."""

    utilization: float
    memory_total_bytes: int
    memory_used_bytes: int


class CpuMeter:
    """Reads /proc, and remembers the times of the last reading. Used by one thread at a time."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._busy, self._idle = self._times() or (0, 0)

    def read(self) -> CpuReading | None:
        """What is so now, or None where there is no such /proc."""
        times, memory = self._times(), self._memory()
        if times is None or memory is None:
            return None
        busy, idle = max(0, times[0] - self._busy), max(0, times[1] - self._idle)
        self._busy, self._idle = times
        total, available = memory
        return CpuReading(busy / (busy + idle) if busy else 0.0, total, total - available)

    def _times(self) -> tuple[int, int] | None:
        """Ticks that all cores were busy and idle since boot."""
        try:
            line = (self._proc / "stat").read_text().partition("\n")[0]
            label, *fields = line.split()
            user, nice, system, idle, iowait, irq, softirq, steal = map(int, fields[:8])
        except (OSError, ValueError):
            return None
        return (user + nice + system + irq + softirq + steal, idle + iowait) if label == "cpu" else None

    def _memory(self) -> tuple[int, int] | None:
        """Bytes in all, and bytes that a new program could have."""
        try:
            lines = (self._proc / "meminfo").read_text().splitlines()
            rows = dict(line.split(":", 1) for line in lines if ":" in line)
            return tuple(int(rows[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))  # type: ignore[return-value]  # two names
        except (OSError, ValueError, KeyError, IndexError):
            return None
