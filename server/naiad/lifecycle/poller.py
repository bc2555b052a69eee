"""Looks at the model repositories every so often, and remembers what they looked like."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from naiad.lifecycle.reload_plan import diff_repository
from naiad.repository.layout import DUPLICATE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from naiad.lifecycle.reload_plan import RepositoryDiff, Sighting
    from naiad.lifecycle.sources import Survey

log = structlog.get_logger(__name__)


class Poller:
    """Owns the task that polls. Used on the event loop's thread."""

    def __init__(self, poll: Callable[[], Awaitable[None]], interval_s: float) -> None:
        """Create it; `poll` looks once, `interval_s` seconds lie between the end of one look and the next."""
        self._poll = poll
        self._interval_s = interval_s
        self._seen: dict[str, Sighting] = {}
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self, survey: Survey) -> None:
        """Begin to poll; what `survey` saw is known already."""
        self.compare(survey)
        self._task = asyncio.create_task(self._run(), name="poll model repositories")

    def compare(self, survey: Survey) -> RepositoryDiff:
        """What changed since the last look, which this one becomes.

        A folder that cannot be looked at just now counts as unchanged, one that is there twice as gone.
        """
        hidden = {name for name, reason in survey.problems.items() if reason != DUPLICATE}
        now = {name: self._seen[name] for name in hidden & self._seen.keys()} | dict(survey.sightings)
        before, self._seen = self._seen, now
        return diff_repository(before, now)

    async def close(self) -> None:
        """Let a look that has begun end, then poll no more; giving up to wait does not interrupt it."""
        self._stop.set()
        if self._task is not None:
            await asyncio.shield(self._task)

    async def _run(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._stop.wait(), self._interval_s)
            except TimeoutError:
                await self._poll_once()
            else:
                return

    async def _poll_once(self) -> None:
        try:
            await self._poll()
        except Exception as error:  # a defect in one look must not end all later ones
            log.error("failed to poll", who="naiad developers", exc_info=error)
