"""Looks at the model repositories every so often, or when something changes, and remembers what it saw."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from naiad.core.clock import MonotonicClock
from naiad.lifecycle.reload_plan import RepositoryDiff, diff_repository
from naiad.lifecycle.settling import Settling
from naiad.lifecycle.watcher import Watcher
from naiad.repository.layout import DUPLICATE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping
    from pathlib import Path

    from naiad.core.clock import Clock
    from naiad.lifecycle.reload_plan import Sighting
    from naiad.lifecycle.sources import Survey
    from naiad.repository.places import Place

log = structlog.get_logger(__name__)

_LATER_S = 0.001  # timers may fire a tick too early, and a look too early is one too many
_REST = 4.0  # looks out of turn leave at least so many times as long as the last one took


class Poller:
    """Owns the task that polls and the watcher that has it look at once. Used on the event loop's thread."""

    def __init__(
        self,
        poll: Callable[[], Awaitable[None]],
        interval_s: float,
        *,
        quiet_s: float = 0.0,
        watch: bool = False,
        clock: Clock | None = None,
    ) -> None:
        """Create it.

        Args:
            poll: looks once, and compares.
            interval_s: the seconds between the end of one look and the next, at most.
            quiet_s: a change counts when two looks so many seconds apart found the same; 0 for at once.
            watch: whether to look as soon as the system tells of a change.
            clock: a monotonic clock; by default the machine's.
        """
        self._poll = poll
        self._interval_s = interval_s
        self._settling: Settling[str] = Settling(int(quiet_s * 1e9))
        self._clock = clock or MonotonicClock()
        self._seen: dict[str, Sighting] = {}
        self._places: Mapping[Path, Place] = {}
        self._woken = asyncio.Event()
        self._watcher = Watcher(self._woken.set) if watch else None
        self._stop = asyncio.Event()
        self._began_ns: int | None = None
        self._rest_s = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self, survey: Survey) -> None:
        """Begin to poll; what `survey` saw is known already."""
        self._seen = dict(survey.sightings)
        self._places = survey.places
        self._task = asyncio.create_task(self._run(), name="poll model repositories")

    def compare(self, survey: Survey) -> RepositoryDiff:
        """What has changed since it was acted upon and has settled; it counts as acted upon now.

        A folder that cannot be looked at just now counts as unchanged, one that is there twice as gone.
        """
        now_ns = self._clock.now_ns()
        if self._began_ns is not None:
            self._rest_s = min(self._interval_s, _REST * (now_ns - self._began_ns) / 1e9)
        hidden = {name for name, reason in survey.problems.items() if reason != DUPLICATE}
        seen = self._seen
        now = {name: seen[name] for name in hidden & seen.keys()} | dict(survey.sightings)
        self._places = survey.places
        diff = diff_repository(seen, now)
        changes = {name: now[name] for name in (*diff.added, *diff.changed, *diff.experiments)}
        known = self._settling.waiting
        settled = self._settling.settle(changes, now_ns)
        _log_waiting(self._settling.waiting - known)
        diff = _only(diff, settled)
        self._seen = _remembered(seen, now, self._settling.waiting)
        return diff

    async def close(self) -> None:
        """Let a look that has begun end, then poll no more; giving up to wait does not interrupt it."""
        self._stop.set()
        self._woken.set()
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _run(self) -> None:
        try:
            await self._watch()
            while await self._wait():
                await self._poll_once()
                await self._watch()
        finally:
            if self._watcher is not None:
                await self._watcher.close()

    async def _wait(self) -> bool:
        """Wait for the next look; False if there is none."""
        await self._pause(self._stop, self._rest_s)
        wait_s = self._interval_s
        if self._settling.due_ns is not None:
            wait_s = min(wait_s, (self._settling.due_ns - self._clock.now_ns()) / 1e9 + _LATER_S)
        await self._pause(self._woken, wait_s)
        self._woken.clear()
        return not self._stop.is_set()

    async def _pause(self, event: asyncio.Event, seconds: float) -> None:
        """Wait so long, or until the event."""
        try:
            await asyncio.wait_for(event.wait(), max(0.0, seconds))
        except TimeoutError:
            return

    async def _watch(self) -> None:
        if self._watcher is not None and not self._stop.is_set():
            await self._watcher.watch(self._places)

    async def _poll_once(self) -> None:
        self._began_ns = self._clock.now_ns()
        try:
            await self._poll()
        except Exception as error:  # a defect in one look must not end all later ones
            log.error("failed to poll", who="naiad developers", exc_info=error)


def _only(diff: RepositoryDiff, settled: Collection[str]) -> RepositoryDiff:
    """The part of it that has settled, and what went."""
    return RepositoryDiff(
        added=tuple(name for name in diff.added if name in settled),
        changed=tuple(name for name in diff.changed if name in settled),
        removed=diff.removed,
        experiments=tuple(name for name in diff.experiments if name in settled),
    )


def _remembered(
    before: Mapping[str, Sighting], now: Mapping[str, Sighting], waiting: Collection[str]
) -> dict[str, Sighting]:
    """What the next look is compared with: for what still waits, how it was."""
    settled = {name: sighting for name, sighting in now.items() if name not in waiting}
    return settled | {name: before[name] for name in waiting if name in before}


def _log_waiting(names: Collection[str]) -> None:
    for name in sorted(names):
        log.info("change seen", model=name, loaded="when it has not changed for a while")
