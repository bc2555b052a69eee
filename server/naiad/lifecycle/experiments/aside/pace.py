"""How fast the process aside may go: a bucket of CPU time, and a number of jobs a second. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from naiad.lifecycle.experiments.aside.sparing import SpareCpus

WINDOW_S = 0.2
"""Seconds of the budget that may be used at once."""


class Pace:
    """A token bucket of CPU time, and the time between two jobs. Times are of a monotonic clock.

    In any second the budget is exceeded by no more than what `WINDOW_S` of it holds, and what one look at the
    clock comes too late. With `spare`, less than the budget is allowed while there is less to spare.
    """

    def __init__(
        self, budget_cpus: float, max_jobs_per_s: float, *, now_ns: int, spare: SpareCpus | None = None
    ) -> None:
        self._max_jobs_per_s = max_jobs_per_s
        self._spare = spare
        self._next_job_ns = now_ns
        self._seen_ns = now_ns
        self._level_ns = 0.0
        self.budget_cpus = budget_cpus
        self._level_ns = self._allowed(now_ns) * WINDOW_S * 1e9

    def _allowed(self, now_ns: int) -> float:
        """The CPUs that may be taken now."""
        return self.budget_cpus if self._spare is None else self._spare.allowed(self.budget_cpus, now_ns)

    def charge(self, cpu_ns: int, now_ns: int) -> None:
        """Take from the bucket what has been used; it may go below empty."""
        self._fill(now_ns)
        self._level_ns -= cpu_ns

    def begin_job(self, now_ns: int) -> None:
        """Note that a job begins."""
        self._next_job_ns = now_ns + int(1e9 / self._max_jobs_per_s)

    def job_wait_ns(self, now_ns: int) -> int:
        """How long the next job has to wait; 0 for not at all."""
        return max(self.run_wait_ns(now_ns), self._next_job_ns - now_ns, 0)

    def run_wait_ns(self, now_ns: int) -> int:
        """How long nothing may run, until half of the bucket is full; 0 while it is not empty."""
        self._fill(now_ns)
        if self._level_ns > 0:
            return 0
        allowed = self._allowed(now_ns)
        return int((allowed * WINDOW_S * 1e9 / 2 - self._level_ns) / allowed) + 1

    def _fill(self, now_ns: int) -> None:
        allowed = self._allowed(now_ns)
        gained = (now_ns - self._seen_ns) * allowed
        self._level_ns = min(allowed * WINDOW_S * 1e9, self._level_ns + gained)
        self._seen_ns = now_ns


class Backoff:
    """How long to wait before a process that ended is started again: doubled each time, up to a limit."""

    def __init__(self, first_s: float, most_s: float) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._next_s = first_s

    def take_s(self) -> float:
        """The time to wait before this start, in seconds."""
        wait_s = self._next_s
        self._next_s = min(self._most_s, wait_s * 2)
        return wait_s

    def reset(self) -> None:
        """It works again."""
        self._next_s = self._first_s
