"""From a model's folder to versions that can serve: calls into loader threads, retries, the log."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import structlog

from naiad.config.ragged_config import MAX_RAGGED_BATCH_BYTES
from naiad.core.errors import InternalError, NaiadError, UnavailableError
from naiad.lifecycle.version import ServingVersion
from naiad.scheduling.factory import create_scheduler
from naiad.scheduling.parts import SharedParts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor

    from naiad.config.model_config import ModelConfig
    from naiad.core.clock import Clock
    from naiad.core.tensors import ModelKey
    from naiad.lifecycle.loading import LoadedModel
    from naiad.repository.layout import ModelFolder
    from naiad.runtime.loaded import LoadedVersion
    from naiad.telemetry.statistics import VersionStatistics

log = structlog.get_logger(__name__)


class Loader(Protocol):
    """Reads and loads what lies in a model's folder. Called from loader threads."""

    def read_config(self, folder: ModelFolder, override: str | None = None) -> ModelConfig:
        """The model's config, not yet completed from a graph; raises NaiadError.

        `override` is JSON that takes the place of the folder's config file.
        """
        ...

    def load(self, folder: ModelFolder, version: int, config: ModelConfig) -> LoadedModel:
        """The version's warm sessions and completed config; raises NaiadError."""
        ...


class VersionLoader:
    """Loads versions in a pool's threads and starts their schedulers. Used on the event loop's thread."""

    def __init__(
        self,
        loader: Loader,
        pool: Executor,
        *,
        clock: Clock,
        max_queue_size: int,
        retries: int,
        new_statistics: Callable[[ModelConfig], VersionStatistics],
        admission_control: bool = True,
        max_ragged_batch_bytes: int = MAX_RAGGED_BATCH_BYTES,
        parts: SharedParts | None = None,
    ) -> None:
        """Create a loader.

        Args:
            loader: does the work.
            pool: its threads; how many there are is how many versions load at once.
            clock: the monotonic clock of the schedulers.
            max_queue_size: requests that may wait for one version unless its config says less.
            retries: how often a load that failed is tried again at once.
            new_statistics: makes the counters of a version from its config.
            admission_control: refuse requests that would wait beyond their deadlines.
            max_ragged_batch_bytes: of all ragged inputs of a batch; a request alone may have more.
            parts: what the schedulers of all models share; by default nothing.
        """
        self._loader = loader
        self._pool = pool
        self._clock = clock
        self._max_queue_size = max_queue_size
        self._retries = retries
        self._new_statistics = new_statistics
        self._admission_control = admission_control
        self._max_ragged_batch_bytes = max_ragged_batch_bytes
        self._parts = parts or SharedParts()

    async def load(
        self, folder: ModelFolder, key: ModelKey, config: ModelConfig, *, is_stopping: Callable[[], bool]
    ) -> ServingVersion | NaiadError:
        """The version, ready to serve, or why there is none; whatever it is, the other models must go on.

        Args:
            folder: the model's.
            key: the version.
            config: not yet completed.
            is_stopping: whether to give up before the next attempt.
        """
        attempts = self._retries + 1
        error: NaiadError = UnavailableError("the server stops")
        for attempt in range(attempts):
            if is_stopping():
                break
            try:
                return await self._attempt(folder, key, config)
            except Exception as caught:  # noqa: BLE001  # a defect in one model must not take down the others
                error = expected(str(key), caught)
            if attempt + 1 < attempts:
                log.warning(
                    "loading again", model=str(key), reason=error.message, left=self._retries - attempt
                )
        log.error("model version refused", model=str(key), reason=error.message, who="model owner")
        return error

    async def _attempt(self, folder: ModelFolder, key: ModelKey, config: ModelConfig) -> ServingVersion:
        started_ns = self._clock.now_ns()
        loop = asyncio.get_running_loop()
        loaded = await loop.run_in_executor(self._pool, self._loader.load, folder, key.version, config)
        serving = self.serve(key, loaded, (self._clock.now_ns() - started_ns) / 1e9)
        warn(str(key), "config", loaded.version.config.warnings[len(config.warnings) :])
        warn(str(key), "config", self._parts.list_unused(loaded.version.config))
        _log_choices(str(key), loaded.version)
        return serving

    def serve(self, key: ModelKey, model: LoadedModel, load_seconds: float) -> ServingVersion:
        """A loaded version with its scheduler, which owns it from now on; raises NaiadError."""
        loaded = model.version
        try:
            statistics = self._new_statistics(loaded.config)
            # By name: an instance on a GPU has several places to run a batch.
            by_name = {instance.name: instance for instance in loaded.layout.instances}
            instances = [by_name[name] for name in loaded.instance_names if name in by_name]
            self._parts.check(instances)
            scheduler = create_scheduler(
                key,
                config=loaded.config,
                sessions=list(zip(loaded.instance_names, loaded.sessions, strict=True)),
                statistics=statistics,
                max_queue_size=self._max_queue_size,
                clock=self._clock,
                admission_control=self._admission_control,
                max_ragged_batch_bytes=self._max_ragged_batch_bytes,
            )
            scheduler = self._parts.around(
                scheduler,
                key,
                config=loaded.config,
                instances=instances,
                statistics=statistics,
                max_queue_size=self._max_queue_size,
                clock=self._clock,
                is_even=loaded.is_even,
            )
        except BaseException:
            loaded.close()
            raise
        return ServingVersion(key, model, scheduler, statistics, load_seconds=load_seconds)


def expected(model: str, error: Exception) -> NaiadError:
    """The error as one of ours; another kind is a bug, and the log gets all of it."""
    if isinstance(error, NaiadError):
        # Its frames hold the model's bytes, and a version that failed keeps its error.
        error.__traceback__ = error.__context__ = error.__cause__ = None
        return error
    log.error("failed to load", model=model, who="naiad developers", exc_info=error)
    return InternalError(f"{type(error).__name__}: {error}")


def warn(model: str, what: str, sentences: Iterable[str]) -> None:
    """Log one warning a sentence for the model's owner."""
    for sentence in sentences:
        log.warning(what, model=model, detail=sentence, who="model owner")


def _log_choices(model: str, loaded: LoadedVersion) -> None:
    for note in loaded.notes:
        log.info("model prepared", model=model, detail=note)
    for sentence in loaded.fallbacks:
        log.warning("execution provider not used", model=model, detail=sentence, who="operator")
