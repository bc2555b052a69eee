"""The model manager: owns what brings models into service and out of it, and every version that serves."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from naiad.config.ragged_config import MAX_RAGGED_BATCH_BYTES
from naiad.lifecycle.control import (
    UNLOADED,
    ControlMode,
    LoadOverride,
    check_controllable,
    check_model_name,
    names_at_start,
)
from naiad.lifecycle.ensembles import Ensembles, drain_order
from naiad.lifecycle.follower import RepositoryFollower
from naiad.lifecycle.loads import ModelLoads
from naiad.lifecycle.lookout import Lookout
from naiad.lifecycle.model_loader import ModelLoader
from naiad.lifecycle.registry import IndexEntry, Model, ModelRegistry, index_entries
from naiad.lifecycle.retirement import Retirement
from naiad.lifecycle.sources import SourceFinder
from naiad.lifecycle.states import ReadyState
from naiad.lifecycle.version_loader import VersionLoader
from naiad.lifecycle.works import ModelWorks
from naiad.runtime.thread_names import name_thread
from naiad.telemetry.statistics import VersionStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from naiad.config.model_config import ModelConfig
    from naiad.core.clock import Clock
    from naiad.lifecycle.experiments.director import Experiments
    from naiad.lifecycle.version import ModelVersion, ServingVersion
    from naiad.lifecycle.version_loader import Loader
    from naiad.repository.layout import ModelFolder
    from naiad.scheduling.parts import SharedParts

__all__ = ["Model", "ModelManager"]


class ModelManager(ModelRegistry):
    """Owns every model version, the threads that load them and the tasks that unload them.

    All methods belong to the event loop's thread. What is done to one model is done one after the other, to
    different models at once.
    """

    def __init__(
        self,
        loader: Loader,
        *,
        clock: Clock,
        max_queue_size: int,
        load_threads: int,
        new_statistics: Callable[[ModelConfig], VersionStatistics] | None = None,
        mode: ControlMode = ControlMode.NONE,
        roots: Sequence[Path] = (),
        load_retries: int = 0,
        poll_secs: float = 15.0,
        admission_control: bool = True,
        max_ragged_batch_bytes: int = MAX_RAGGED_BATCH_BYTES,
        parts: SharedParts | None = None,
        find_versions: Callable[[str], Sequence[int]] | None = None,
        quiet_secs: float = 0.0,
        watch: bool = False,
        ready_marker: str = "",
        allow_interface_change: bool = False,
        ready_while_loading: bool = False,
        experiments: Experiments | None = None,
    ) -> None:
        """Create an empty manager.

        Args:
            loader: reads configs and makes sessions.
            clock: the monotonic clock of the schedulers.
            max_queue_size: requests that may wait for one version unless its config says less.
            load_threads: how many versions load at the same time.
            new_statistics: makes the counters of a version from its config; by default plain ones.
            mode: when models are loaded and unloaded after the start.
            roots: the model repositories.
            load_retries: how often the load of a version that failed is tried again at once.
            poll_secs: in mode poll, the seconds between two looks at the repositories.
            admission_control: refuse requests that would wait beyond their deadlines.
            max_ragged_batch_bytes: of all ragged inputs of a batch; a request alone may have more.
            parts: what the schedulers of all models share; by default nothing.
            find_versions: the versions of a model whose folder has none, by its name; by default none.
            quiet_secs: in mode poll, how long a folder must not have changed before it is loaded.
            watch: in mode poll, whether to look as soon as the system tells of a change.
            ready_marker: the file that a version's folder must hold to count; by default none.
            allow_interface_change: whether new versions may have other inputs and outputs than what serves.
            ready_while_loading: whether the server is ready while all that served does; see `is_model_ready`.
            experiments: takes those on the models' versions; by default there are none.
        """
        super().__init__(ready_while_loading=ready_while_loading)
        self.mode = mode
        self.on_state: Callable[[], None] | None = None
        """Called whenever a version has changed its state; set by the one who tells the world."""
        self._load_pool = ThreadPoolExecutor(load_threads, "naiad-load", initializer=name_thread)
        finder = SourceFinder(loader, roots, find_versions=find_versions, ready_marker=ready_marker)
        self._lookout = Lookout(finder, roots)
        self._works = ModelWorks()
        self._retirement = Retirement(self._tell, left=self._forget_guest)
        versions = VersionLoader(
            loader,
            self._load_pool,
            clock=clock,
            max_queue_size=max_queue_size,
            retries=load_retries,
            new_statistics=new_statistics or (lambda _: VersionStatistics()),
            admission_control=admission_control,
            max_ragged_batch_bytes=max_ragged_batch_bytes,
            parts=parts,
        )
        self._ensembles = Ensembles(self._models, self._retirement, serve=versions.serve)
        models = ModelLoader(
            versions,
            self._retirement,
            tell=self._tell,
            is_stopping=lambda: self._works.stopping,
            ensembles=self._ensembles,
            allow_interface_change=allow_interface_change,
            experiments=experiments,
        )
        self._experiments = experiments
        if experiments is not None:
            experiments.on_change = self._follow_decision
        self._loads = ModelLoads(
            self._models, self._lookout, models, self._works, ensembles=self._ensembles, tell=self._tell
        )
        self._follower = RepositoryFollower(
            self._models,
            self._lookout,
            self._loads,
            ensembles=self._ensembles,
            unload=self._unload_quietly,
            poll_secs=poll_secs,
            quiet_secs=quiet_secs,
            watch=watch,
            clock=clock,
        )

    async def start(self, load_models: Sequence[str] = ()) -> None:
        """Load what the mode says and, in mode poll, keep looking. Failures stay in the states.

        Args:
            load_models: in mode explicit the models to load; `*` alone is every one.

        Raises:
            InvalidArgumentError: models are named in another mode, or beside `*`, or a repository cannot be
                listed.
        """
        names = names_at_start(self.mode, load_models)
        survey, folders = await self._follower.look(names)
        await self._loads.load_each(folders)
        if self.mode is ControlMode.EXPLICIT:
            await self._loads.load_composing(folders)
        self._ensembles.report()
        if self.mode is ControlMode.POLL:
            self._follower.follow(survey)

    async def load_all(self, folders: Sequence[ModelFolder]) -> None:
        """Load each model's versions as its policy says; failures stay in the states, none is raised."""
        await self._loads.load_each({folder.name: folder for folder in folders})
        self._ensembles.report()

    async def load(self, name: str, override: LoadOverride | None = None) -> None:
        """Load a model or, beside what serves of it, load it anew; with an ensemble, its models too.

        A load that has begun goes on if its caller leaves; one that still waits for another is given up.

        Args:
            name: the model.
            override: what takes the place of the config, or of all files, in the repository.

        Raises:
            UnavailableError: the mode is not explicit, or the server stops.
            InvalidArgumentError: no such name can be, or the model does not load; what served before goes on.
            InternalError: there is no such model, its config cannot be read, or the override is wrong; the
                log says more.
        """
        check_controllable(self.mode)
        check_model_name(name)
        await self._loads.load(name, override)

    async def unload(self, name: str, *, dependents: bool = False) -> None:
        """Take a model out of service at once; what it accepted is answered after this has returned.

        A model that is not known, or unloaded already, is fine.

        Args:
            name: the model.
            dependents: whether to unload the models that it is composed of too, unless they were loaded by
                their own names or another ensemble needs them.

        Raises:
            UnavailableError: the mode is not explicit, or the server stops.
        """
        check_controllable(self.mode)
        unneeded = self._ensembles.only_needed_by(name) if dependents else []
        for each in (name, *unneeded):
            await self._works.run(each, partial(self._unload, each))

    async def poll(self) -> None:
        """Look at every repository once and follow what changed. Failures are logged; what serves goes on."""
        await self._follower.poll()

    async def index(self, *, ready_only: bool = False) -> list[IndexEntry]:
        """The repository index: what is on disk now and in which state.

        Raises:
            InvalidArgumentError: a repository cannot be listed.
        """
        return index_entries(self._models, await self._lookout.folders(), ready_only=ready_only)

    def unanswered(self) -> dict[str, int]:
        """How many calls, or runs whose callers have left, are at work on each version that has any."""
        serving = [*self._serving(), *self._retirement.leaving()]
        return {str(each.key): each.unanswered for each in serving if each.unanswered}

    async def drain(self) -> None:
        """Accept no more work and wait until what loads has ended and all accepted work is answered.

        Who cannot wait for so long may give up; nothing is interrupted by that.
        """
        self._works.stop()
        await self._settle()
        for group in drain_order([*self._serving(), *self._retirement.leaving()]):
            await asyncio.gather(*(serving.drain() for serving in group))
        await self._retirement.drain()

    async def close(self) -> None:
        """Unload everything; what still waits fails, what runs or loads ends first."""
        self._works.stop()
        await self._settle()
        await self._retirement.close()
        for model in self._models.values():
            for entry in model.versions.values():
                if entry.state is ReadyState.READY:
                    self._retirement.retire(entry)
        await self._retirement.close()
        self._load_pool.shutdown(wait=True)
        self._lookout.close()

    async def _settle(self) -> None:
        """Wait for the look and the loads that have begun: a session being made cannot be interrupted."""
        await self._follower.close()
        await self._works.settle()

    def discard_files(self) -> None:
        """Remove what requests brought along, before the process ends without closing anything."""
        self._loads.discard_files()

    async def _unload(self, name: str) -> None:
        model = self._models.get(name)
        if model is None:
            return
        model.served = model.problem = model.waiting = model.refused_change = None
        model.is_explicit = False
        for entry in model.versions.values():
            if entry.state is ReadyState.READY:
                self._retirement.retire(entry)
            elif entry.state is ReadyState.UNAVAILABLE or entry.is_withdrawn:
                entry.reason = UNLOADED  # nobody waits for it any more, so it does not count as failed
        if not model.versions:
            del self._models[name]
        self._tell()

    def _forget_guest(self, entry: ModelVersion) -> None:
        """Forget a model that came with a request and has left: it has no folder to come back from."""
        model = self._models.get(entry.key.name)
        if (
            model is not None
            and model.is_guest
            and model.served is None
            and model.waiting is None
            and all(each.state is ReadyState.UNAVAILABLE for each in model.versions.values())
        ):
            del self._models[model.name]

    async def _unload_quietly(self, name: str) -> None:
        async with self._works.alone(name):
            await self._unload(name)

    def layouts(self) -> dict[str, str]:
        """Of each version that serves and has sessions: its instances and threads, in words."""
        serving = sorted(self._serving(), key=lambda version: str(version.key))
        return {str(each.key): each.layout_text for each in serving if each.instance_count}

    def _serving(self) -> list[ServingVersion]:
        return [
            entry.serving
            for model in self._models.values()
            for entry in model.versions.values()
            if entry.serving is not None
        ]

    def _tell(self) -> None:
        if not self._works.stopping:
            self._follow_versions()
            self._ensembles.refresh()
        if self.on_state is not None:
            self.on_state()

    @property
    def has_experiments(self) -> bool:
        """Whether an experiment on any model is in force."""
        return self._experiments is not None and len(self._experiments) > 0

    def _follow_versions(self) -> None:
        """Tell experiments which versions serve; one whose model has none any more ends."""
        if self._experiments is None:
            return
        for experiment in list(self._experiments):
            serving = {each.key.version: each for each in self.ready_versions(experiment.model)}
            if serving:
                self._experiments.bind(experiment.model, serving)
            else:
                self._end_experiment(experiment.model)

    def _follow_decision(self) -> None:
        """What stands for a model may be another version now: ensembles go with it."""
        if not self._works.stopping:
            self._ensembles.refresh()

    def _end_experiment(self, name: str) -> None:
        assert self._experiments is not None
        self._experiments.leave(name)
        model = self._models.get(name)
        if model is not None:
            model.experiment = None
