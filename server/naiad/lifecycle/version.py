"""One model version: its state, what serves it while it is ready, and the handles that keep it alive."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, Self

from naiad.config.ensemble_checks import LEAF
from naiad.lifecycle.control import UNLOADED
from naiad.lifecycle.embedding_space import composed_weights, embedding_space
from naiad.lifecycle.states import ReadyState, check_transition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from naiad.config.model_config import ModelConfig
    from naiad.core.errors import NaiadError
    from naiad.core.tensors import InferRequest, InferResponse, ModelKey
    from naiad.lifecycle.loading import LoadedModel, VisionModel
    from naiad.runtime.tensorrt.build import BuildStatus
    from naiad.scheduling.factory import Scheduler
    from naiad.telemetry.statistics import VersionStatistics


class Watch(Protocol):
    """Learns from what a version answers. Used on the event loop's thread."""

    @property
    def keeps_inputs(self) -> bool:
        """Whether tensors are looked at after their request was answered: they must lie in memory of it."""
        ...

    def follow(self, request: InferRequest, future: asyncio.Future[InferResponse]) -> None:
        """See what becomes of a request that the version has taken."""
        ...

    def refused(self, error: Exception) -> None:
        """The version has not taken a request."""
        ...


class ServingVersion:
    """What a ready version is made of. Built when it has been loaded and warmed."""

    def __init__(
        self,
        key: ModelKey,
        model: LoadedModel,
        scheduler: Scheduler,
        statistics: VersionStatistics,
        *,
        load_seconds: float = 0.0,
    ) -> None:
        """Take over a loaded model.

        Args:
            key: the version that it is.
            model: its sessions, closed with this.
            scheduler: what runs its requests, closed with this.
            statistics: what the scheduler counts.
            load_seconds: the wall time that loading and warming it took.
        """
        self.key = key
        self.load_seconds = load_seconds
        self.config: ModelConfig = model.version.config
        self.vision = model.vision
        self.model = model
        self.labels = model.labels
        self.scheduler = scheduler
        self.composed_of: tuple[ServingVersion, ...] = ()
        """Of an ensemble: the versions that run its steps now. Who holds it holds them too."""
        self.extent = LEAF
        self.statistics = statistics
        self.watch: Watch | None = None
        """Of a version in an experiment: who learns from its answers."""
        self._loaded = model.version
        self._handles = 0
        self._released = asyncio.Event()
        self._released.set()
        self._closing: asyncio.Task[None] | None = None

    @property
    def execution_providers(self) -> tuple[str, ...]:
        """The execution providers in use now, first choice first."""
        return self._loaded.current_providers

    @property
    def instance_providers(self) -> Mapping[str, str]:
        """The execution provider that each instance prefers now."""
        return self._loaded.current_instance_providers

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """One sentence for each execution provider that was asked for and is not used now."""
        return self._loaded.current_fallbacks

    @property
    def engine_build(self) -> BuildStatus | None:
        """How far TensorRT's engine is, None for a version that has none."""
        engine = self._loaded.engine
        return engine.build.status if engine is not None and engine.build is not None else None

    @property
    def weights(self) -> str:
        """The digest of what it computes with now; empty if that was not seen."""
        if not self.composed_of:
            return self.model.weights
        return composed_weights(self.config, [model.weights for model in self.composed_of])

    @property
    def embedding_space(self) -> str:
        """The space of its vectors; empty for what is no embedder. An ensemble's changes with its models."""
        if not self.composed_of:
            return self.model.embedding_space
        return embedding_space(self.config, self.key.version, self.weights)

    @property
    def queued(self) -> int:
        """Requests that wait for an instance."""
        return self.scheduler.queued

    @property
    def instance_count(self) -> int:
        """How many instances run its requests."""
        return len(set(self._loaded.instance_names))

    @property
    def layout_text(self) -> str:
        """How many instances with how many threads each, whether idle ones spin, and in a word why."""
        return self._loaded.layout.text

    @property
    def layout_reason(self) -> str:
        """Where the number of instances and the threads come from."""
        return self._loaded.layout.reason

    @property
    def unanswered(self) -> int:
        """Users who have not released their handles or, where all have left, instances that still run."""
        return self._handles or self.scheduler.busy

    def acquire(self) -> ModelHandle:
        """Count one more user; an unload waits until all have released."""
        self._handles += 1
        if self._handles == 1:
            self._released.clear()
        if not self.composed_of:
            return ModelHandle(self)
        # Not only while a request runs: between this and `submit` an unload would close what its steps need.
        return ModelHandle(self, tuple(model.acquire() for model in self.composed_of))

    def release(self) -> None:
        """Count one user less; called by the handle."""
        self._handles -= 1
        if not self._handles:
            self._released.set()

    async def drain(self) -> None:
        """Wait until every accepted request is answered and every handle released."""
        await self.scheduler.drain()
        await self._released.wait()

    async def finish(self) -> None:
        """Wait until whoever has a handle is done, with what it submits from now on too; then take no more.

        For a version that hands out no more handles while the server goes on.
        """
        await self._released.wait()
        await self.scheduler.drain()

    async def close(self) -> None:
        """End the instances, then free their sessions. Later calls wait for the first one."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name=f"close {self.key}")
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self.scheduler.close()
        # Freeing gigabytes of weights takes a while, in which the loop must go on answering.
        await asyncio.to_thread(self._loaded.close)


class ModelHandle:
    """The right to use one version. A context manager; used on the event loop's thread."""

    __slots__ = ("_models", "_released", "_serving")

    def __init__(self, serving: ServingVersion, models: Sequence[ModelHandle] = ()) -> None:
        self._serving = serving
        self._models = models
        self._released = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def key(self) -> ModelKey:
        """The version it stands for."""
        return self._serving.key

    @property
    def config(self) -> ModelConfig:
        """The version's completed config."""
        return self._serving.config

    @property
    def vision(self) -> VisionModel | None:
        """What images for this version go through; None for a model that takes tensors only."""
        return self._serving.vision

    @property
    def embedding_space(self) -> str:
        """The space of its vectors, which may be compared with each other and with no others."""
        return self._serving.embedding_space

    @property
    def defers(self) -> bool:
        """Whether its requests may come with `sources` and a `sink`."""
        watch = self._serving.watch
        return self._serving.scheduler.defers and (watch is None or not watch.keeps_inputs)

    @property
    def instance_count(self) -> int:
        """How many instances run its requests."""
        return self._serving.instance_count

    @property
    def labels(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the classes of each output that has a label file, index 0 first."""
        return self._serving.labels

    @property
    def execution_providers(self) -> tuple[str, ...]:
        """The execution providers that the sessions really use, first choice first."""
        return self._serving.execution_providers

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """One sentence for each execution provider that was asked for and is not used."""
        return self._serving.fallbacks

    def provider_of(self, instance: str) -> str:
        """The execution provider that an instance prefers."""
        return self._serving.instance_providers[instance]

    def submit(self, request: InferRequest) -> asyncio.Future[InferResponse]:
        """Hand a validated request to the version's scheduler.

        Raises:
            UnavailableError: the version drains, or its queue is full.
        """
        serving = self._serving
        if serving.watch is None:
            return serving.scheduler.submit(request)
        try:
            future = serving.scheduler.submit(request)
        except Exception as error:
            serving.watch.refused(error)
            raise
        serving.watch.follow(request, future)
        return future

    def release(self) -> None:
        """Give the right back. Safe to call twice."""
        if not self._released:
            self._released = True
            self._serving.release()
            for model in self._models:
                model.release()


class ModelVersion:
    """A version's state, why it is unavailable, and what serves it while READY."""

    def __init__(self, key: ModelKey) -> None:
        self.key = key
        self.state = ReadyState.UNKNOWN
        self.reason: NaiadError | str = ""
        self.serving: ServingVersion | None = None
        self.has_served = False
        self.is_withdrawn = False
        """Of an ensemble that has served: what it is composed of has left or has changed."""

    @property
    def is_out_on_purpose(self) -> bool:
        """Whether someone took it, or what it needs, out of service, so that nobody misses it."""
        return self.reason == UNLOADED or self.is_withdrawn

    def __repr__(self) -> str:
        return f"<ModelVersion {self.key} {self.state.value}>"

    def move(self, state: ReadyState, reason: NaiadError | str = "") -> None:
        """Go to another state; raises ValueError if that transition is not allowed."""
        check_transition(self.state, state)
        self.state = state
        self.reason = reason
        self.has_served = self.has_served or state is ReadyState.READY
