"""Loads of models: by a client, because a folder came or changed, and of what ensembles are composed of."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import structlog

from naiad.core.errors import NaiadError, NotFoundError
from naiad.lifecycle.control import poll_failure
from naiad.lifecycle.ensembles import CompositionError, composition_failure
from naiad.lifecycle.registry import Model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from naiad.lifecycle.control import LoadOverride
    from naiad.lifecycle.ensembles import Ensembles
    from naiad.lifecycle.lookout import Lookout
    from naiad.lifecycle.model_loader import ModelLoader
    from naiad.lifecycle.sources import Source
    from naiad.lifecycle.works import ModelWorks
    from naiad.repository.layout import ModelFolder

log = structlog.get_logger(__name__)


class ModelLoads:
    """Finds what a model is loaded from, has it loaded, and remembers what came of it.

    Owns the sources that are in use. Used on the event loop's thread.
    """

    def __init__(
        self,
        models: dict[str, Model],
        lookout: Lookout,
        loader: ModelLoader,
        works: ModelWorks,
        *,
        ensembles: Ensembles,
        tell: Callable[[], None],
    ) -> None:
        """Create it.

        Args:
            models: every known model; those that are loaded for the first time are added.
            lookout: finds the sources.
            loader: brings a model to what a source says.
            works: does one thing at a time to one model.
            ensembles: says what else is needed.
            tell: called when a model was refused.
        """
        self._models = models
        self._lookout = lookout
        self._loader = loader
        self._works = works
        self._ensembles = ensembles
        self._tell = tell
        self._sources: set[Source] = set()

    def refuse(self, name: str, problem: NaiadError, *, who: str = "model owner") -> None:
        """Know model `name` as one that cannot be loaded at all, and why; what serves of it goes on.

        Args:
            name: the model.
            problem: the reason.
            who: who can mend it, for the log.
        """
        model = self._models.setdefault(name, Model(name))
        model.problem, model.unreadable = problem, not model.versions
        log.error("model refused", model=name, reason=problem.message, who=who)
        self._tell()

    async def load_each(self, folders: Mapping[str, ModelFolder]) -> None:
        """Load the models of these folders. Nobody asked: failures stay in the states and the log."""
        async with asyncio.TaskGroup() as group:
            for name, folder in folders.items():
                group.create_task(self._load_quietly(name, folder), name=f"load {name}")

    async def load_composing(self, names: Iterable[str]) -> None:
        """Models were loaded by these names: load what the ensembles among them are composed of, and so on.

        Failures stay in the states.
        """
        known = set(names)
        for model in filter(None, map(self._models.get, known)):
            model.is_explicit = True
        while found := self._ensembles.composing(known) - known:
            known |= found
            async with asyncio.TaskGroup() as group:
                for each in found:
                    group.create_task(self._load_step(each), name=f"load {each}")

    async def load(self, name: str, override: LoadOverride | None = None) -> None:
        """Load a model for a client; with an ensemble, its models too.

        Args:
            name: the model.
            override: what takes the place of the config, or of all files, in the repository.

        Raises:
            NaiadError: as `ModelManager.load`.
        """
        problem: CompositionError | None = None
        try:
            await self._works.run(name, partial(self._load, name, override))
        except CompositionError as error:  # its models may come now
            problem = error
        await self.load_composing([name])
        self._ensembles.report()
        model = self._models.get(name)
        if problem is not None and model is not None and model.waiting is not None:
            raise composition_failure(name, model.waiting.problem)

    def discard_files(self) -> None:
        """Remove what requests brought along, before the process ends without closing anything."""
        for source in self._sources:
            source.close()

    async def _load_step(self, name: str) -> None:
        with suppress(NaiadError):
            await self._works.run(name, partial(self._load, name, None))

    async def _load(self, name: str, override: LoadOverride | None) -> None:
        """A client's load: the reason of an early failure is for the log only."""
        try:
            source = await self._find(name, override=override)
        except NaiadError as error:
            is_callers = override is not None or isinstance(error, NotFoundError)
            if is_callers:
                log.warning("load refused", model=name, reason=error.message, who="caller")
            else:
                log.error("load refused", model=name, reason=error.message, who="model owner")
                self._note_failure(name, error)
            raise poll_failure(name) from error
        await self._load_source(name, source)

    async def _load_quietly(self, name: str, folder: ModelFolder) -> None:
        async with self._works.alone(name):
            try:
                source = await self._find(name, folder=folder)
            except NaiadError as error:
                if self._serves(name):
                    log.error("change refused", model=name, reason=error.message, who="model owner")
                else:
                    self.refuse(name, error)
                self._note_failure(name, error)
                return
            with suppress(NaiadError):
                await self._load_source(name, source)

    async def _find(
        self, name: str, *, override: LoadOverride | None = None, folder: ModelFolder | None = None
    ) -> Source | None:
        model = self._models.get(name)
        served = model.served if model else None
        return await self._lookout.find(name, override=override, folder=folder, served=served)

    async def _load_source(self, name: str, source: Source | None) -> None:
        if source is None:
            return
        self._sources.add(source)
        model = self._models.setdefault(name, Model(name))
        try:
            await self._loader.load(model, source)
            _note_success(model)
        except NaiadError as error:
            self._note_failure(name, error, is_from_repository=not source.view.overridden)
            raise
        finally:
            await self._lookout.discard(source)
            self._sources.discard(source)

    def _serves(self, name: str) -> bool:
        model = self._models.get(name)
        return model is not None and bool(model.ready)

    def _note_failure(self, name: str, error: NaiadError, *, is_from_repository: bool = True) -> None:
        """Count it, and remember it while what serves is not what lies in the repository."""
        if (model := self._models.get(name)) is None:
            return
        model.load_failures += 1
        if is_from_repository and model.ready:
            model.refused_change = error


def _note_success(model: Model) -> None:
    if model.refused_change is not None:
        log.info("model serves what its folder holds again", model=model.name)
        model.refused_change = None
