"""Looks at the model repositories from threads of its own: a folder may be as slow as its disk."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from naiad.lifecycle.version_loader import expected
from naiad.repository.layout import level_hint, list_folders
from naiad.runtime.thread_names import name_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from naiad.lifecycle.control import LoadOverride
    from naiad.lifecycle.reload_plan import ModelView
    from naiad.lifecycle.sources import Source, SourceFinder, Survey
    from naiad.repository.layout import ModelFolder

Result = TypeVar("Result")

_THREADS = 2  # looking at folders must not wait for loads, which may take minutes


class Lookout:
    """Owns the threads that look at folders. Used on the event loop's thread."""

    def __init__(self, finder: SourceFinder, roots: Sequence[Path]) -> None:
        """Create it.

        Args:
            finder: does the looking.
            roots: the model repositories.
        """
        self.roots = tuple(roots)
        self._finder = finder
        self._pool = ThreadPoolExecutor(_THREADS, "naiad-look", initializer=name_thread)

    async def survey(self) -> Survey:
        """Every model folder as it is.

        Raises:
            InvalidArgumentError: a repository is missing or cannot be listed.
        """
        return await self._look(self._finder.survey)

    async def folders(self) -> dict[str, list[Path]]:
        """The folders of each name; raises as `survey`."""
        return await self._look(partial(list_folders, self.roots))

    async def misplaced(self) -> list[tuple[Path, str]]:
        """The roots that do not look like a model repository, and what seems to be meant instead."""
        return await self._look(lambda: [(root, hint) for root in self.roots if (hint := level_hint(root))])

    async def find(
        self,
        name: str,
        *,
        override: LoadOverride | None = None,
        folder: ModelFolder | None = None,
        served: ModelView | None = None,
    ) -> Source | None:
        """What to load a model from; the arguments and the answer are those of `SourceFinder.find`.

        Raises:
            NaiadError: there is nothing to load it from, for whatever reason.
        """
        find = partial(self._finder.find, name, override=override, folder=folder, served=served)
        try:
            return await self._look(find)
        except Exception as error:  # whatever it is, the other models must go on
            raise expected(name, error) from error

    async def discard(self, source: Source) -> None:
        """Remove what a request brought along."""
        await self._look(source.close)

    def close(self) -> None:
        """Let a look that has begun end, and join the threads."""
        self._pool.shutdown(wait=True)

    async def _look(self, look: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, look)
