"""Engines of the whole process: what a version asks for, where it is kept, who builds it."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain, groupby
from typing import TYPE_CHECKING, NamedTuple, Protocol

import structlog

from naiad.core.datatypes import DataType
from naiad.core.errors import CancelledError, InternalError, NaiadError, UnsupportedError
from naiad.runtime.session_settings import read_session_settings
from naiad.runtime.tensorrt.build import EngineBuild
from naiad.runtime.tensorrt.calibration import with_calibration_table
from naiad.runtime.tensorrt.key import EngineFacts, engine_key, model_digest, timing_key
from naiad.runtime.tensorrt.options import ENGINE_CACHE, TIMING_CACHE, cache_options, is_off, without_files
from naiad.runtime.tensorrt.swappable import SwappableSession
from naiad.runtime.tensorrt.verify import check_answers, describe, make_feeds
from naiad.runtime.warmup import output_names

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from naiad.config.model_config import ModelConfig
    from naiad.runtime.graph import PreparedModel
    from naiad.runtime.session import Session
    from naiad.runtime.tensorrt.builder import EngineBuilder
    from naiad.runtime.tensorrt.cache import EngineCache, Lease
    from naiad.runtime.tensorrt.device import Driver
    from naiad.runtime.tensorrt.plan import EnginePlan
    from naiad.runtime.warmup_samples import PreparedSample

CACHED_WAIT_S = 5.0
"""How long a load waits for an engine that is in the cache; then CUDA serves until it is open."""

log = structlog.get_logger(__name__)


class OpenUnit(Protocol):
    """Opens one instance on TensorRT, with options of the provider; raises NaiadError if it cannot be."""

    def __call__(self, options: Mapping[str, str]) -> Sequence[Session]:
        """A session for each of the instance's slots."""
        ...


@dataclass(frozen=True, slots=True)
class EngineUnit:
    """One instance on a GPU: what runs it now, what to compare with meanwhile, and how to open its engine."""

    gpu: int
    serving: tuple[Session, ...]
    reference: Session
    open: OpenUnit


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What a version's engine is made from. `samples` are what it is compared on beside random inputs."""

    model: str
    path: Path
    prepared: PreparedModel
    config: ModelConfig
    plan: EnginePlan
    units: tuple[EngineUnit, ...]
    samples: tuple[PreparedSample, ...] = ()


class _Keys(NamedTuple):
    engine: str
    timings: str


class EngineService:
    """Starts the builds of versions. Called from loader threads; its owner closes the builder."""

    def __init__(
        self,
        builder: EngineBuilder,
        driver: Driver,
        *,
        onnxruntime: str,
        cache: EngineCache | None = None,
        always_blocking: bool = False,
    ) -> None:
        """Create the service.

        Args:
            builder: runs the builds.
            driver: knows GPUs and TensorRT.
            onnxruntime: the engine's version.
            cache: where engines are kept; None builds each of them anew.
            always_blocking: wait for every engine, whatever the configs say.
        """
        self._builder = builder
        self._driver = driver
        self._onnxruntime = onnxruntime
        self._cache = cache
        self._always_blocking = always_blocking

    def start(self, request: EngineRequest) -> tuple[EngineBuild, dict[Session, SwappableSession]]:
        """Ask for an engine; it may be swapped in already when this returns.

        A version whose config says so waits for its engine, as does one whose engine is in the cache, for a
        few seconds.

        Returns:
            The build, and what each serving session is to be replaced with.

        Raises:
            UnavailableError: TensorRT, a GPU or a file of the model is not there.
            UnsupportedError: the calibration table is not beside the model.
        """
        plan = request.plan
        named = without_files(plan.options)
        options = with_calibration_table(named, request.path)
        keys = self._keys(request, named)
        slots = {
            session: SwappableSession(
                session,
                dispose=self._builder.dispose,
                declared=plan.declared,
                batched=request.config.max_batch_size > 0,
            )
            for unit in request.units
            for session in unit.serving
        }
        build = EngineBuild(
            request.model,
            list(slots.values()),
            open_engines=partial(self._open, request, options, keys),
            verify=partial(_verify, request),
        )
        cached = self._cache is not None and all(self._cache.holds(key.engine) for key in keys.values())
        self._builder.submit(build, soon=cached)
        if self._always_blocking or plan.blocking:
            build.wait()
        elif cached:
            build.wait(CACHED_WAIT_S)
        return build, slots

    def _keys(self, request: EngineRequest, options: Mapping[str, str]) -> dict[int, _Keys]:
        """The names in the cache by GPU: those of one kind share an engine."""
        tensorrt = self._driver.tensorrt_version()
        digest = model_digest(request.path, request.prepared)
        optimization = read_session_settings(request.config).optimization
        keys = {}
        for unit in request.units:
            kind = self._driver.gpu_kind(unit.gpu)
            facts = EngineFacts(digest, options, kind, tensorrt, self._onnxruntime, optimization)
            keys[unit.gpu] = _Keys(engine_key(facts), timing_key(kind, tensorrt))
        return keys

    def _open(
        self,
        request: EngineRequest,
        options: Mapping[str, str],
        keys: Mapping[int, _Keys],
        cancelled: threading.Event,
    ) -> list[Session]:
        """Sessions for every slot, in order; runs on the builder's thread."""
        with ExitStack() as opened:
            sessions: dict[int, Sequence[Session]] = {}
            order = sorted(range(len(request.units)), key=lambda index: keys[request.units[index].gpu])
            for key, indices in groupby(order, key=lambda index: keys[request.units[index].gpu]):
                with self._lease(key, options, cancelled) as lease:
                    for index in indices:
                        found = self._open_unit(request, index, options, lease)
                        for session in found:
                            opened.callback(session.close)
                        sessions[index] = _as_many(found, request.units[index])
                        if cancelled.is_set():
                            raise CancelledError("the engine is not wanted any more")
            opened.pop_all()
        return list(chain.from_iterable(sessions[index] for index in range(len(request.units))))

    def _lease(
        self, key: _Keys, options: Mapping[str, str], cancelled: threading.Event
    ) -> AbstractContextManager[Lease | None]:
        if self._cache is None or is_off(options, ENGINE_CACHE):
            return nullcontext()
        return self._cache.lease(key.engine, key.timings, cancelled)

    def _open_unit(
        self, request: EngineRequest, index: int, options: Mapping[str, str], lease: Lease | None
    ) -> Sequence[Session]:
        """One instance's sessions; an engine that is made for the first is there for the others."""
        unit = request.units[index]
        if lease is None or self._cache is None:
            return unit.open(_with_caches(options, unit.gpu, None))
        try:
            sessions = unit.open(_with_caches(options, unit.gpu, lease))
        except NaiadError as error:
            if not lease.found:
                raise
            self._cache.set_aside(lease, error.message)
            sessions = unit.open(_with_caches(options, unit.gpu, lease))
        try:
            self._keep(request, lease)
        except NaiadError:
            for session in sessions:
                session.close()
            raise
        return sessions

    def _keep(self, request: EngineRequest, lease: Lease) -> None:
        """Publish what was built, and take out of use what the engine has changed in place."""
        assert self._cache is not None
        if not lease.found:
            if not any(lease.folder.iterdir()):
                raise UnsupportedError("TensorRT took no part of the graph, and made no engine")
            self._cache.publish(lease, _about(request, self._onnxruntime))
        elif fault := self._cache.read_fault(lease):
            self._cache.set_aside(lease, fault)
        for note in lease.notes:
            log.warning("tensorrt cache", model=request.model, detail=note, who="operator")
        lease.notes = ()


def _with_caches(options: Mapping[str, str], gpu: int, lease: Lease | None) -> dict[str, str]:
    engines = str(lease.folder) if lease is not None else None
    timings = None if lease is None or is_off(options, TIMING_CACHE) else str(lease.timings)
    return {**options, "device_id": str(gpu), **cache_options(engines, timings)}


def _about(request: EngineRequest, onnxruntime: str) -> dict[str, str]:
    return {
        "model": request.model,
        "precision": request.plan.precision.value,
        "batch_sizes": ",".join(map(str, request.plan.batch_sizes)),
        "onnxruntime": onnxruntime,
    }


def _as_many(sessions: Sequence[Session], unit: EngineUnit) -> Sequence[Session]:
    """One session for each that serves; more are closed.

    Raises:
        InternalError: there are fewer.
    """
    count = len(unit.serving)
    if len(sessions) < count:
        raise InternalError(
            f"GPU {unit.gpu} has room for {len(sessions)} lanes on TensorRT beside the {count} that serve: "
            "name fewer in naiad.gpu_lanes"
        )
    for session in sessions[count:]:
        session.close()
    return sessions[:count]


def _verify(request: EngineRequest, engines: Sequence[Session], cancelled: threading.Event) -> None:
    """Run every batch size on every engine, which warms it, and hold its answers to what serves.

    Raises:
        InternalError: an answer is too far off, or there was nothing to compare.
        CancelledError: nobody wants the engine any more.
    """
    reference = request.units[0].reference
    names = output_names(reference, request.config)
    bf16 = {spec.name for spec in reference.outputs() if spec.datatype is DataType.BF16}
    samples = (sample.feeds for sample in request.samples)
    compared, refusal = 0, ""
    for feeds in chain(make_feeds(request.config, request.plan), samples):
        try:
            expected = reference.run(feeds, names)
        except NaiadError as error:
            # What CUDA refuses, such as an index out of range, says nothing about an engine.
            refusal = error.message
            continue
        for engine in engines:
            if cancelled.is_set():
                raise CancelledError("the engine is not wanted any more")
            try:
                check_answers(engine.run(feeds, names), expected, request.plan.precision, bf16)
            except NaiadError as error:
                raise InternalError(f"with {describe(feeds)} {error.message}") from error
            compared += 1
    if not compared:
        raise InternalError(f"it could not be compared: CUDA takes none of the inputs tried: {refusal}")
