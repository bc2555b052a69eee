"""Which changes have been still for long enough to be acted upon. Decides from looks, not from file times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

Key = TypeVar("Key", bound="Hashable")


class Settling(Generic[Key]):
    """Remembers since when each change looks as it does.

    Two looks that find the same, at least the quiet period apart, make a change settled: times of files,
    which may lie in the future or come from another machine's clock, say nothing here.
    """

    def __init__(self, quiet_ns: int) -> None:
        """Create it; with a quiet period of 0 every change is settled at once."""
        self._quiet_ns = quiet_ns
        self._waiting: dict[Key, tuple[Hashable, int]] = {}

    def settle(self, changes: Mapping[Key, Hashable], now_ns: int) -> set[Key]:
        """Those of the changes that are settled; the others, and no more, are waited for.

        Args:
            changes: everything that has changed and was not acted upon, with what stands for how it looks.
            now_ns: when that was seen, on a monotonic clock.
        """
        if not self._quiet_ns:
            return set(changes)
        waiting: dict[Key, tuple[Hashable, int]] = {}
        settled: set[Key] = set()
        for key, look in changes.items():
            before = self._waiting.get(key)
            since_ns = before[1] if before is not None and before[0] == look else now_ns
            if now_ns - since_ns >= self._quiet_ns:
                settled.add(key)
            else:
                waiting[key] = look, since_ns
        self._waiting = waiting
        return settled

    @property
    def waiting(self) -> set[Key]:
        """What is not settled yet."""
        return set(self._waiting)

    @property
    def due_ns(self) -> int | None:
        """When the first of what waits is settled if it stays as it is; None if nothing waits."""
        return min((since_ns + self._quiet_ns for _, since_ns in self._waiting.values()), default=None)
