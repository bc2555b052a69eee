"""The clock, as a parameter: decisions take `now` and tests advance it by hand."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock in nanoseconds, never set back."""

    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary, fixed start."""
        ...


class MonotonicClock:
    """The machine's monotonic clock."""

    def now_ns(self) -> int:
        """Nanoseconds of `time.monotonic_ns`."""
        return time.monotonic_ns()
