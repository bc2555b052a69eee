"""Which of several servers is asked next: each in turn, those that failed set aside for a while. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

FIRST_PAUSE_NS = 500_000_000
"""For so long a server that failed once is not asked; twice as long for each further time."""

LONGEST_PAUSE_NS = 30_000_000_000


@dataclass(slots=True)
class _Place:
    failures: int = 0
    aside_until_ns: int = 0


class Rotation:
    """Turns of a number of servers. Not for several threads at once.

    A server that was set aside is tried again, with a request, when its pause is over. Where all are set
    aside, they are asked all the same, those whose pause ends first before the others.
    """

    def __init__(self, count: int) -> None:
        """Start with all of `count` servers in turn, the first one first."""
        self._places = [_Place() for _ in range(count)]
        self._next = 0

    def __repr__(self) -> str:
        return f"<Rotation next={self._next} failures={[place.failures for place in self._places]}>"

    def order(self, now_ns: int) -> Sequence[int]:
        """The servers to ask for one request, one after the other until one answers."""
        count = len(self._places)
        start, self._next = self._next, (self._next + 1) % count
        turn = [(start + step) % count for step in range(count)]
        return sorted(turn, key=lambda index: self._aside_ns(index, now_ns))  # stable: those in turn keep it

    def failed(self, index: int, now_ns: int) -> bool:
        """Set a server aside; returns whether it was in turn until now."""
        place = self._places[index]
        was_in_turn = place.failures == 0
        pause_ns = min(LONGEST_PAUSE_NS, FIRST_PAUSE_NS << min(place.failures, 10))
        place.failures += 1
        place.aside_until_ns = now_ns + pause_ns
        return was_in_turn

    def answered(self, index: int) -> bool:
        """Take a server back into the turns; returns whether it had been set aside."""
        place = self._places[index]
        was_aside = place.failures > 0
        place.failures = place.aside_until_ns = 0
        return was_aside

    def is_aside(self, index: int) -> bool:
        """Whether the server's last answer was a failure."""
        return self._places[index].failures > 0

    def _aside_ns(self, index: int, now_ns: int) -> int:
        return max(0, self._places[index].aside_until_ns - now_ns)
