"""A clock that tests set by hand."""

from __future__ import annotations

import time


class FakeClock:
    """Stands still until it is advanced."""

    def __init__(self, now_ns: int = 1_000_000_000) -> None:
        self.now = now_ns

    def now_ns(self) -> int:
        """The time it was set to."""
        return self.now

    def advance_us(self, microseconds: float) -> None:
        """Let time pass."""
        self.now += int(microseconds * 1_000)


class SkippingClock:
    """The machine's monotonic clock, and what tests add to it."""

    def __init__(self) -> None:
        self._skipped_ns = 0

    def now_ns(self) -> int:
        """Nanoseconds since a fixed start."""
        return time.monotonic_ns() + self._skipped_ns

    def skip_us(self, microseconds: float) -> None:
        """Let time have passed; whoever waits for it sees that when next awake."""
        self._skipped_ns += int(microseconds * 1_000)
