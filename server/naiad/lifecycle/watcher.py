"""Waits for the system to tell that something below the repositories has changed."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from naiad.runtime.thread_names import name_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from naiad.repository.places import Place

log = structlog.get_logger(__name__)

_STEP_MS = 100  # how often the thread looks for events and for its end
_DEBOUNCE_MS = 500  # events that follow each other for so long are told as one
_FIRST_LOOK_MS = 500  # by then it watches: what changed before that is found by one more look


class Watcher:
    """Owns the thread that waits for events. Used on the event loop's thread.

    Not every file system tells, a link's target does not tell its link, and a queue of events has an end: who
    must not miss anything looks by itself as well.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        """Create it; `changed` is called on the loop's thread when something may have changed."""
        self._changed = changed
        self._pool = ThreadPoolExecutor(1, "naiad-watch", initializer=name_thread)
        self._places: dict[Path, Place] = {}
        self._stop = threading.Event()
        self._task: asyncio.Task[None] | None = None
        self._gave_up = False

    async def watch(self, places: Mapping[Path, Place]) -> None:
        """Watch these folders and all below them, anew if one of them is another than before.

        Args:
            places: the folders, links among them, and where they lie; links below another one of them are
                followed.
        """
        is_watching = self._task is not None and not self._task.done()  # it ends when one of them goes
        if self._gave_up or not places or (is_watching and self._places == places):
            return
        await self._end()
        self._places = dict(places)
        self._stop = threading.Event()
        self._task = asyncio.create_task(self._watch(self._stop), name="watch model repositories")

    async def close(self) -> None:
        """Watch no more and join the thread."""
        await self._end()
        self._pool.shutdown(wait=True)

    async def _end(self) -> None:
        self._stop.set()
        if self._task is not None:
            await asyncio.shield(self._task)
        self._task = None

    async def _watch(self, stop: threading.Event) -> None:
        loop = asyncio.get_running_loop()
        paths = [str(path) for path in self._places]

        def tell() -> None:
            loop.call_soon_threadsafe(self._changed)

        try:
            await loop.run_in_executor(self._pool, _wait_for_events, paths, stop, tell)
        except Exception as error:  # noqa: BLE001  # whatever keeps the system from telling, looking goes on
            self._gave_up = True
            log.warning(
                "repositories are not watched",
                reason=str(error),
                detail="changes are found by looking, every --repository-poll-secs",
                who="operator",
            )


def _wait_for_events(paths: list[str], stop: threading.Event, tell: Callable[[], None]) -> None:
    """Call `tell` after events and once when it has begun, until `stop` or until one of the paths goes.

    What goes may come back as another folder with the same inode: then all is watched anew. Raises what the
    system's way of watching raises.
    """
    from watchfiles import Change, watch  # noqa: PLC0415  # only servers that poll need it

    if not _are_there(paths):
        return
    has_looked = False
    for changes in watch(
        *paths,
        watch_filter=None,
        debounce=_DEBOUNCE_MS,
        step=_STEP_MS,
        stop_event=stop,
        rust_timeout=_FIRST_LOOK_MS,
        yield_on_timeout=True,
        raise_interrupt=False,
        force_polling=False,
        ignore_permission_denied=True,  # it also passes over what is not there
    ):
        is_gone = any((Change.deleted, path) in changes for path in paths) or not _are_there(paths)
        if changes or is_gone or not has_looked:
            tell()
        if is_gone:
            return
        has_looked = True


def _are_there(paths: list[str]) -> bool:
    return all(map(Path.is_dir, map(Path, paths)))
