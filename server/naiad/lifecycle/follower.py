"""Follows the model repositories: what is there at start, and in mode poll what came, changed and went."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from naiad.core.errors import NaiadError, UnavailableError
from naiad.lifecycle.control import missing_model
from naiad.lifecycle.poller import Poller
from naiad.repository.layout import DUPLICATE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from naiad.core.clock import Clock
    from naiad.lifecycle.ensembles import Ensembles
    from naiad.lifecycle.loads import ModelLoads
    from naiad.lifecycle.lookout import Lookout
    from naiad.lifecycle.registry import Model
    from naiad.lifecycle.sources import Survey
    from naiad.repository.layout import ModelFolder

log = structlog.get_logger(__name__)


class RepositoryFollower:
    """Has loaded and unloaded what the repositories say. Owns the poller. Used on the event loop's thread."""

    def __init__(
        self,
        models: Mapping[str, Model],
        lookout: Lookout,
        loads: ModelLoads,
        *,
        ensembles: Ensembles,
        unload: Callable[[str], Awaitable[None]],
        poll_secs: float,
        quiet_secs: float,
        watch: bool,
        clock: Clock,
    ) -> None:
        """Create it.

        Args:
            models: every known model, as it changes.
            lookout: looks at the repositories.
            loads: loads what came or changed.
            ensembles: reports those that wait when all has been followed.
            unload: takes a model that went out of service.
            poll_secs: the seconds between two looks.
            quiet_secs: how long a folder must not have changed before it is loaded.
            watch: whether to look as soon as the system tells of a change.
            clock: a monotonic clock.
        """
        self._models = models
        self._lookout = lookout
        self._loads = loads
        self._ensembles = ensembles
        self._unload = unload
        self._poller = Poller(self.poll, poll_secs, quiet_s=quiet_secs, watch=watch, clock=clock)

    async def look(self, names: Collection[str] | None) -> tuple[Survey, dict[str, ModelFolder]]:
        """Look for the first time, and refuse what cannot be loaded.

        Args:
            names: the models to load; None for every one.

        Returns:
            What was seen, and the folders of the models to load.

        Raises:
            InvalidArgumentError: a repository cannot be listed.
        """
        survey = await self._lookout.survey()
        roots = self._lookout.roots
        if not survey.folders and not survey.problems:
            log.warning("no model to serve", model_repository=", ".join(map(str, roots)), who="operator")
        for root, hint in await self._lookout.misplaced():
            log.warning("not a model repository", path=str(root), detail=hint, who="operator")
        for name, reason in survey.problems.items():
            if names is None or name in names:
                self._loads.refuse(name, UnavailableError(reason))
        for name in names or ():
            if name not in survey.folders and name not in survey.problems:
                self._loads.refuse(name, missing_model(name, roots, survey.folders), who="operator")
        chosen = {name: folder for name, folder in survey.folders.items() if names is None or name in names}
        return survey, chosen

    def follow(self, survey: Survey) -> None:
        """Begin to poll; what `survey` saw is known already."""
        self._poller.start(survey)

    async def poll(self) -> None:
        """Look at every repository once and follow what changed. Failures are logged; what serves goes on."""
        try:
            survey = await self._lookout.survey()
        except NaiadError as error:
            log.error("cannot poll", reason=error.message, who="operator")
            return
        for name, reason in survey.problems.items():
            if reason == DUPLICATE:
                await self._refuse_duplicate(name)
            else:
                log.error("cannot poll model", model=name, reason=reason, who="model owner")
        diff = self._poller.compare(survey)
        for name in diff.removed:
            await self._unload(name)
        await self._loads.load_each(
            {
                name: survey.folders[name]
                for name in (*diff.added, *diff.changed, *diff.experiments)
                if not self._is_being_copied(survey.folders[name])
            }
        )
        self._ensembles.report()

    async def close(self) -> None:
        """Let a look that has begun end, then poll no more; giving up to wait does not interrupt it."""
        await self._poller.close()

    def _is_being_copied(self, folder: ModelFolder) -> bool:
        """A new folder that has no version yet is not there yet: it must not make the server unready."""
        if folder.versions or folder.name in self._models:
            return False
        log.info("model folder has no version yet", model=folder.name, looked_at_again="when it changes")
        return True

    async def _refuse_duplicate(self, name: str) -> None:
        model = self._models.get(name)
        if model is None or model.problem is None:
            repositories = list(map(str, self._lookout.roots))
            log.error("duplicate", model=name, reason=DUPLICATE, repositories=repositories)
            await self._unload(name)
            self._loads.refuse(name, UnavailableError(DUPLICATE))
