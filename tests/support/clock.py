"""A clock that tests set by hand."""

from __future__ import annotations


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
