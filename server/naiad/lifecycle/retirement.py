"""Takes versions out of service in the background: what they accepted is answered, then all is freed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from naiad.lifecycle.control import UNLOADED
from naiad.lifecycle.states import ReadyState
from naiad.runtime.allocator import release_freed_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.core.errors import NaiadError
    from naiad.lifecycle.version import ModelVersion, ServingVersion

log = structlog.get_logger(__name__)


LAST_WORDS_S = 0.5
"""How long versions that are closed may take to say so in the log, before those in use are given up."""


class Retirement:
    """Owns the versions that leave and the tasks that see them off. Used on the event loop's thread."""

    def __init__(
        self, tell: Callable[[], None], *, left: Callable[[ModelVersion], None] = lambda _: None
    ) -> None:
        """Create it; `tell` is called whenever a version has changed its state, `left` when one is gone."""
        self._tell = tell
        self._left = left
        self._leaving: dict[asyncio.Task[None], ServingVersion] = {}

    def retire(
        self, entry: ModelVersion, reason: NaiadError | str = "", *, is_replaced: bool = False
    ) -> None:
        """Take a READY version out of service at once; what it accepted is still answered.

        Args:
            entry: the version.
            reason: why, if nobody asked for it.
            is_replaced: a newer load of the same version serves already.
        """
        serving = entry.serving
        assert serving is not None
        entry.move(ReadyState.UNLOADING, reason)
        entry.serving = None
        self._tell()
        task = asyncio.create_task(
            self._see_off(entry, serving, is_replaced=is_replaced), name=f"unload {entry.key}"
        )
        self._leaving[task] = serving
        task.add_done_callback(self._forget)

    def leaving(self) -> list[ServingVersion]:
        """The versions that have not left yet."""
        return list(self._leaving.values())

    async def drain(self) -> None:
        """Refuse what would still come and wait until all that was accepted is answered."""
        await asyncio.gather(*(serving.drain() for serving in self._leaving.values()))

    async def close(self) -> None:
        """End every version that still leaves, answered or not."""
        leaving = dict(self._leaving)
        await asyncio.gather(*(serving.close() for serving in leaving.values()), return_exceptions=True)
        if leaving:
            await asyncio.wait(leaving, timeout=LAST_WORDS_S)  # those that nobody holds end by themselves
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)

    async def _see_off(self, entry: ModelVersion, serving: ServingVersion, *, is_replaced: bool) -> None:
        try:
            await serving.finish()
        finally:
            entry.move(ReadyState.UNAVAILABLE, entry.reason or UNLOADED)
            self._left(entry)
            self._tell()
        await serving.close()
        # The heap keeps what is freed so that requests find it warm; a model's weights are too much for that.
        await asyncio.to_thread(release_freed_memory)
        if is_replaced:
            log.info("former load of model version released", model=str(entry.key))
        else:
            log.info("model version unloaded", model=str(entry.key))

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._leaving[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("failed to unload", task=task.get_name(), who="naiad developers", exc_info=error)
