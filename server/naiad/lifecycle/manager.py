"""The model manager: loads what the repository and its policies want, hands out handles, drains."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import structlog

from naiad.core.errors import InternalError, NaiadError
from naiad.core.tensors import ModelKey
from naiad.lifecycle.routing import choose_version
from naiad.lifecycle.states import ReadyState
from naiad.lifecycle.version import ModelHandle, ModelVersion, ServingVersion
from naiad.repository.version_policy import select_versions
from naiad.scheduling.factory import create_scheduler
from naiad.telemetry.statistics import VersionStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from naiad.config.model_config import ModelConfig
    from naiad.core.clock import Clock
    from naiad.lifecycle.loading import LoadedModel
    from naiad.repository.layout import ModelFolder
    from naiad.runtime.loader import LoadedVersion

log = structlog.get_logger(__name__)


class VersionLoader(Protocol):
    """Reads and loads what lies in a model's folder. Called from loader threads."""

    def read_config(self, folder: ModelFolder) -> ModelConfig:
        """The model's config, not yet completed from a graph; raises NaiadError."""
        ...

    def load(self, folder: ModelFolder, version: int, config: ModelConfig) -> LoadedModel:
        """The version's warm sessions and completed config; raises NaiadError."""
        ...


@dataclass(slots=True)
class Model:
    """A model by name: its versions, or why its folder could not be read at all."""

    name: str
    versions: dict[int, ModelVersion] = field(default_factory=dict)
    problem: NaiadError | None = None


class ModelManager:
    """Owns every model version. All methods belong to the event loop's thread."""

    def __init__(
        self,
        loader: VersionLoader,
        *,
        clock: Clock,
        max_queue_size: int,
        load_threads: int,
    ) -> None:
        """Create an empty manager.

        Args:
            loader: reads configs and makes sessions.
            clock: the monotonic clock of the schedulers.
            max_queue_size: requests that may wait for one version unless its config says less.
            load_threads: how many versions load at the same time.
        """
        self._loader = loader
        self._clock = clock
        self._max_queue_size = max_queue_size
        self._load_pool = ThreadPoolExecutor(load_threads, thread_name_prefix="naiad-load")
        self.on_state: Callable[[], None] | None = None
        """Called whenever a version has changed its state; set by the one who tells the world."""
        self._models: dict[str, Model] = {}

    async def load_all(self, folders: Sequence[ModelFolder]) -> None:
        """Load each model's versions as its policy says; failures stay in the states, none is raised."""
        async with asyncio.TaskGroup() as group:
            for folder in folders:
                group.create_task(self._load_model(folder), name=f"load {folder.name}")

    def refuse(self, name: str, problem: NaiadError) -> None:
        """Know model `name` as one that cannot be loaded at all, and why."""
        self._models[name] = Model(name, problem=problem)
        log.error("model refused", model=name, reason=problem.message, who="model owner")
        self._tell()

    def acquire(self, name: str, version: int | None) -> ModelHandle:
        """A handle on the version that should answer.

        Raises:
            NotFoundError: no such model or version, or none is ready.
            UnavailableError: the version asked for is not ready.
        """
        model = self._models.get(name)
        states = None
        if model is not None and (model.versions or model.problem is None):
            states = {number: entry.state for number, entry in model.versions.items()}
        chosen = choose_version(name, version, states)
        assert model is not None
        entry = model.versions[chosen]
        assert entry.serving is not None
        return entry.serving.acquire()

    def models(self) -> Iterator[Model]:
        """Every known model, sorted by name."""
        return iter(sorted(self._models.values(), key=lambda model: model.name))

    def model_names(self) -> list[str]:
        """The names of every known model, sorted."""
        return sorted(self._models)

    def ready_versions(self, name: str) -> list[ServingVersion]:
        """What serves model `name` now, ascending by version."""
        model = self._models.get(name)
        versions = model.versions.values() if model else ()
        serving = [entry.serving for entry in versions if entry.state is ReadyState.READY and entry.serving]
        return sorted(serving, key=lambda version: version.key.version)

    def is_ready(self, name: str, version: int | None) -> bool:
        """Whether that version, or with None any version, answers."""
        return any(version in (None, serving.key.version) for serving in self.ready_versions(name))

    def all_ready(self) -> bool:
        """Whether every known model has loaded every version that it should have."""
        return all(
            model.problem is None
            and model.versions
            and all(
                entry.state is ReadyState.READY or entry.reason == "unloaded"
                for entry in model.versions.values()
            )
            for model in self._models.values()
        )

    async def drain(self) -> None:
        """Accept no more work and wait until all accepted work is answered."""
        await asyncio.gather(*(serving.drain() for serving in self._serving()))

    async def close(self) -> None:
        """Unload everything; what still waits fails, what runs ends first."""
        for model in self._models.values():
            for entry in model.versions.values():
                if entry.serving is None:
                    continue
                if entry.state is ReadyState.READY:
                    entry.move(ReadyState.UNLOADING)
                await entry.serving.close()
                entry.serving = None
                entry.move(ReadyState.UNAVAILABLE, "unloaded")
        self._load_pool.shutdown(wait=True)

    def _tell(self) -> None:
        if self.on_state is not None:
            self.on_state()

    def _serving(self) -> list[ServingVersion]:
        return [
            entry.serving
            for model in self._models.values()
            for entry in model.versions.values()
            if entry.serving is not None
        ]

    async def _load_model(self, folder: ModelFolder) -> None:
        loop = asyncio.get_running_loop()
        try:
            config = await loop.run_in_executor(self._load_pool, self._loader.read_config, folder)
            selection = select_versions(config.version_policy, folder.versions, model_name=folder.name)
        except Exception as error:  # noqa: BLE001  # whatever it is, the other models must go on
            self.refuse(folder.name, self._expected(folder.name, error))
            return
        model = self._models[folder.name] = Model(folder.name)
        _warn(folder.name, "config", config.warnings)
        _warn(folder.name, "folder", folder.notes)
        for missing in selection.missing:
            log.warning(
                "version of the policy is not there", model=folder.name, version=missing, who="model owner"
            )
        for version in selection.selected:
            model.versions[version] = ModelVersion(ModelKey(folder.name, version))
        async with asyncio.TaskGroup() as group:
            for entry in model.versions.values():
                group.create_task(self._load_version(folder, entry, config))

    async def _load_version(self, folder: ModelFolder, entry: ModelVersion, config: ModelConfig) -> None:
        entry.move(ReadyState.LOADING)
        started_ns = self._clock.now_ns()
        loop = asyncio.get_running_loop()
        try:
            loaded = await loop.run_in_executor(
                self._load_pool, self._loader.load, folder, entry.key.version, config
            )
        except Exception as error:  # noqa: BLE001  # whatever it is, the other models must go on
            self._refuse(entry, error)
        else:
            found_late = loaded.version.config.warnings[len(config.warnings) :]
            _warn(str(entry.key), "config", found_late)
            entry.serving = self._serve(entry.key, loaded)
            entry.move(ReadyState.READY)
            _log_loaded(entry.key, loaded.version, (self._clock.now_ns() - started_ns) // 1_000_000)
        self._tell()

    def _refuse(self, entry: ModelVersion, error: Exception) -> None:
        reason = self._expected(str(entry.key), error)
        entry.move(ReadyState.UNAVAILABLE, reason)
        log.error("model version refused", model=str(entry.key), reason=reason.message, who="model owner")

    @staticmethod
    def _expected(model: str, error: Exception) -> NaiadError:
        """The error as one of ours; another kind is a bug, and the log gets all of it."""
        if isinstance(error, NaiadError):
            return error
        log.error("failed to load", model=model, who="naiad developers", exc_info=error)
        return InternalError(f"{type(error).__name__}: {error}")

    def _serve(self, key: ModelKey, model: LoadedModel) -> ServingVersion:
        loaded = model.version
        statistics = VersionStatistics()
        scheduler = create_scheduler(
            key,
            config=loaded.config,
            sessions=list(zip(loaded.instance_names, loaded.sessions, strict=True)),
            statistics=statistics,
            max_queue_size=self._max_queue_size,
            clock=self._clock,
        )
        return ServingVersion(key, model, scheduler, statistics)


def _warn(model: str, what: str, sentences: Sequence[str]) -> None:
    for sentence in sentences:
        log.warning(what, model=model, detail=sentence, who="model owner")


def _log_loaded(key: ModelKey, loaded: LoadedVersion, took_ms: int) -> None:
    for note in loaded.notes:
        log.info("model prepared", model=str(key), detail=note)
    for sentence in loaded.fallbacks:
        log.warning("execution provider not used", model=str(key), detail=sentence, who="operator")
    log.info(
        "model version ready",
        model=str(key),
        instances=len(loaded.sessions),
        execution_providers=list(loaded.execution_providers),
        took_ms=took_ms,
    )
