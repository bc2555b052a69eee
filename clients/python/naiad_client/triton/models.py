"""The models of a Triton server, each opened when it is first asked for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from naiad.config.complete import complete_model_config
from naiad.config.model_config import DynamicBatching
from naiad.config.reader import config_from_message
from naiad.core.clock import MonotonicClock
from naiad.core.errors import CancelledError, NaiadError, NotFoundError, UnavailableError
from naiad.core.tensors import ModelKey
from naiad.lifecycle.embedding_space import embedding_space
from naiad.lifecycle.loaded import LoadedModel, vision_model
from naiad.lifecycle.registry import Model, ModelRegistry
from naiad.lifecycle.states import ReadyState
from naiad.lifecycle.version import ModelVersion, ServingVersion
from naiad.runtime.remote.loader import open_remote_version
from naiad.runtime.remote.model import describe, ready_models, without_files
from naiad.scheduling.factory import create_scheduler
from naiad.telemetry.statistics import VersionStatistics
from naiad.vision.embedder import Embedder

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from typing import Any

    from naiad.config.model_config import ModelConfig
    from naiad.runtime.remote.loader import RemoteEngine
    from naiad.runtime.remote.model import RemoteModel

_MAX_WAITING = 1_000
_TASK = "naiad.task"


class Wanted(NamedTuple):
    """A model that a request asks for; "" is the only one of its kind, None the highest version."""

    name: str
    version: int | None


class TritonModels(ModelRegistry):
    """What serves here for the models there. Used on the event loop's thread; close it there.

    A version is taken as it was described until a request for it is refused; then it is asked for anew.
    """

    def __init__(self, engine: RemoteEngine, threads: Executor) -> None:
        """Create it empty.

        Args:
            engine: the server, and how many calls a model makes at once.
            threads: where calls that describe models wait.
        """
        super().__init__()
        self._engine = engine
        self._threads = threads
        self._lock = asyncio.Lock()
        self._latest: set[str] = set()
        self._is_listed = False
        self._closing: set[asyncio.Task[None]] = set()

    def embedder_name(self, name: str) -> str:
        """`name`, or where that is empty the name of the only embedder that is open; "" if it is not one."""
        if name:
            return name
        names = [
            each
            for each in self.model_names()
            if any(isinstance(serving.vision, Embedder) for serving in self.ready_versions(each))
        ]
        return names[0] if len(names) == 1 else ""

    async def prepare(self, wanted: Wanted) -> None:
        """Open a model, unless it is open; with an empty name all vision models.

        Raises:
            NaiadError: the server is not there, or there is no such model, or its config is wrong.
        """
        if self._has(wanted):
            return
        async with self._lock:
            if self._has(wanted):
                return
            if wanted.name:
                await self._open(wanted)
            else:
                await self._open_all()

    def forget(self, key: ModelKey) -> None:
        """Take a version out, so that the next request for it asks the server anew."""
        self._is_listed = False
        self._latest.discard(key.name)
        model = self._models.get(key.name)
        entry = model.versions.pop(key.version, None) if model is not None else None
        if entry is not None and entry.serving is not None:
            self._see_off(entry.serving)

    async def close(self) -> None:
        """End every model's calls and threads."""
        for name in self.model_names():
            for serving in self.ready_versions(name):
                self.forget(serving.key)
        await asyncio.gather(*self._closing)

    def _has(self, wanted: Wanted) -> bool:
        if not wanted.name:
            return self._is_listed
        if wanted.version is None:
            return wanted.name in self._latest
        return self.is_ready(wanted.name, wanted.version)

    async def _open_all(self) -> None:
        found = await self._in_thread(partial(ready_models, self._engine.fleet))
        for name in found:
            if name not in self._latest:
                await self._open(Wanted(name, None), vision_only=True)
        self._is_listed = True

    async def _open(self, wanted: Wanted, *, vision_only: bool = False) -> None:
        remote = await self._in_thread(partial(self._describe, wanted))
        if vision_only and _TASK not in remote.message.parameters:
            return
        key = ModelKey(wanted.name, int(remote.version))
        if not self.is_ready(*key):
            loaded = await self._in_thread(partial(self._load, remote))
            self._add(key, loaded)
        if wanted.version is None:
            self._latest.add(wanted.name)

    def _describe(self, wanted: Wanted) -> RemoteModel:
        """The version that is wanted, by its number: requests name it, so that answers are of one version."""
        fleet = self._engine.fleet
        if wanted.version is not None:
            return describe(fleet, wanted.name, str(wanted.version))
        remote = describe(fleet, wanted.name, "")
        if not remote.versions:
            raise NotFoundError(f"model '{wanted.name}' has no version on Triton")
        return replace(remote, version=str(remote.versions[-1]))

    def _load(self, remote: RemoteModel) -> LoadedModel:
        config = client_config(remote)
        complete = partial(complete_model_config, default_max_batch_size=0)
        loaded = open_remote_version(config, remote, engine=self._engine, complete=complete, warm=False)
        # Requests that wait while all calls are under way share the next one.
        batching = DynamicBatching() if loaded.config.max_batch_size > 1 else None
        loaded = replace(loaded, config=replace(loaded.config, dynamic_batching=batching))
        # The weights lie where they are run; only another Naiad tells what they are.
        space = embedding_space(loaded.config, int(remote.version), loaded.weights)
        vision = vision_model(loaded.config)
        return LoadedModel(loaded, vision, weights=loaded.weights, embedding_space=space)

    def _add(self, key: ModelKey, loaded: LoadedModel) -> None:
        statistics = VersionStatistics()
        scheduler = create_scheduler(
            key,
            config=loaded.version.config,
            sessions=list(zip(loaded.version.instance_names, loaded.version.sessions, strict=True)),
            statistics=statistics,
            max_queue_size=_MAX_WAITING,
            clock=MonotonicClock(),
            admission_control=False,
        )
        entry = ModelVersion(key)
        entry.move(ReadyState.LOADING)
        entry.serving = ServingVersion(key, loaded, scheduler, statistics)
        entry.move(ReadyState.READY)
        self._models.setdefault(key.name, Model(key.name)).versions[key.version] = entry

    def _see_off(self, serving: ServingVersion) -> None:
        async def close() -> None:
            await serving.drain()
            await serving.close()

        task = asyncio.create_task(close(), name=f"close {serving.key}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _in_thread(self, work: Any) -> Any:
        try:
            done = asyncio.get_running_loop().run_in_executor(self._threads, work)
        except RuntimeError:  # the program ends, and with it all threads
            raise CancelledError("Channel closed!") from None
        return await done


def client_config(remote: RemoteModel) -> ModelConfig:
    """A server's config of a model as it counts for who calls it: tensors, batches, `naiad.` parameters.

    Raises:
        NaiadError: a parameter is wrong.
    """
    message = without_files(remote.message)
    for field in (
        "instance_group",
        "ensemble_scheduling",
        "optimization",
        "response_cache",
        "model_operations",
    ):
        message.ClearField(field)
    message.backend = message.backend or "onnxruntime"
    message.platform = ""
    return config_from_message(message, Path(remote.name))


def is_stale(error: NaiadError) -> bool:
    """Whether an error may mean that the server has another version now."""
    return isinstance(error, NotFoundError | UnavailableError)
