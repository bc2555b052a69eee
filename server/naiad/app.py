"""The composition root: builds every part in one written order, and closes them in the reverse."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

import cv2
import structlog

from naiad.config.cache_config import parse_cache_config
from naiad.config.engine_address import parse_engine
from naiad.config.rate_config import parse_rate_limit_resources
from naiad.core.clock import MonotonicClock
from naiad.core.errors import InvalidArgumentError
from naiad.dataplane import DataPlane
from naiad.dataplane.decode_pool import DecodePool
from naiad.dataplane.faces import FacePlane
from naiad.dataplane.frames.rooms import FrameRooms
from naiad.dataplane.pictures import PicturePlane
from naiad.lifecycle.control import ControlMode
from naiad.lifecycle.experiments.aside import AsideSettings, default_budget
from naiad.lifecycle.experiments.director import Experiments
from naiad.lifecycle.loading import RepositoryLoader
from naiad.lifecycle.manager import ModelManager
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.profiling import Profiles
from naiad.runtime.remote.fleet import Fleet
from naiad.runtime.remote.loader import RemoteEngine
from naiad.runtime.tensorrt.builder import EngineBuilder
from naiad.runtime.tensorrt.setup import default_cache_root, open_engine_service
from naiad.runtime.threads import read_cpu_budget, read_cpu_quota
from naiad.runtime.tuning_process import LayoutTuner
from naiad.scheduling.cache import ResponseCache
from naiad.scheduling.parts import SharedParts
from naiad.scheduling.rate_limiter import RateLimiter
from naiad.services.calls import Calls
from naiad.services.grpc_settings import GrpcSettings
from naiad.services.http import HttpServer, HttpSettings
from naiad.services.metrics import MetricsServer, statistics_factory
from naiad.services.metrics_view import ManagerView
from naiad.services.server import GrpcServer, check_port_free
from naiad.services.shared_memory.regions import Regions
from naiad.services.triton import TritonService
from naiad.telemetry.log_settings import LogSettings
from naiad.telemetry.metrics import metrics_settings
from naiad.telemetry.tracing import TraceManager, parse_trace_config
from naiad.vision.images import ImageLimits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.config.server_config import ServerConfig
    from naiad.runtime.tensorrt.service import EngineService
    from naiad.telemetry.metrics import MetricsSettings

log = structlog.get_logger(__name__)

_BUILDER_STOP_S = 2.0


class NaiadServer:
    """A whole server in one event loop.

    Entering it loads the repository and opens the ports; leaving it drains and closes. `drained` tells
    afterwards whether all accepted work was answered within the exit timeout, `builder_ended` whether no
    build of an engine was left behind. The ports are 0 where a front
    end is not allowed.
    """

    def __init__(self, config: ServerConfig, logs: LogSettings | None = None) -> None:
        """Create a server.

        Args:
            config: its settings.
            logs: the log's settings, which clients may change; by default none that reach a log.
        """
        self.config = config
        self.grpc_port = 0
        self.http_port = 0
        self.metrics_port = 0
        self.drained = True
        self.builder_ended = True
        self._engine_builder = EngineBuilder()
        self._logs = logs or LogSettings()
        self._grpc: GrpcServer | None = None
        self._http: HttpServer | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        limit_s = self.config.exit_timeout_secs
        log.info("draining", exit_timeout_secs=limit_s)
        deadline = time.monotonic() + limit_s
        for each in self._front_ends:
            each.begin_drain()
        # A load that waits for an engine goes on without: its caller is answered before the port closes.
        await asyncio.to_thread(self._engine_builder.stop)
        self.drained = await self._front_ends_closed(limit_s) and await self._instances_idle(deadline)
        if not self.drained:
            # What runs on an instance's thread cannot be stopped, so nothing below can be closed either.
            return
        await self._stack.aclose()
        log.info("stopped")

    async def _front_ends_closed(self, limit_s: float) -> bool:
        """Close both front ends, which drain, within one limit; whether every accepted call was answered.

        Neither port closes before the last call of the other is answered: a probe is told 503 until then.
        """
        front_ends = self._front_ends
        answered = all(await asyncio.gather(*(each.answered(limit_s) for each in front_ends)))
        if not answered:
            self._log_timeout()
        await asyncio.gather(*(each.close() for each in front_ends))
        return answered

    @property
    def _front_ends(self) -> list[GrpcServer | HttpServer]:
        return [each for each in (self._grpc, self._http) if each is not None]

    async def _instances_idle(self, deadline: float) -> bool:
        """Wait for what still runs though its callers have left; False if it outlasts the exit timeout."""
        try:
            await asyncio.wait_for(self.manager.drain(), max(0.1, deadline - time.monotonic()))
        except TimeoutError:
            self._log_timeout()
            return False
        return True

    def discard_files(self) -> None:
        """Remove what load requests left on the disk, when the process ends without closing anything."""
        if hasattr(self, "manager"):  # there is none before the settings were found good
            self.manager.discard_files()

    def _log_timeout(self) -> None:
        log.error(
            "Exit timeout expired. Exiting immediately.",
            exit_timeout_secs=self.config.exit_timeout_secs,
            unanswered=self.manager.unanswered(),
            who="operator",
        )

    async def _start(self) -> None:
        config = self.config
        # What can be wrong is looked at before models are loaded for minutes.
        grpc_settings = GrpcSettings.of(config)
        http_settings = HttpSettings.of(config)
        metrics = metrics_settings(
            config.metrics_config,
            allow_cpu_metrics=config.allow_cpu_metrics,
            allow_gpu_metrics=config.allow_gpu_metrics,
            interval_ms=config.metrics_interval_ms,
        )
        if config.allow_grpc:
            check_port_free(config.grpc_address, config.grpc_port, reuse_port=config.reuse_grpc_port)
        if config.allow_http:
            check_port_free(
                config.http_address, config.http_port, reuse_port=config.reuse_http_port, flags="http"
            )
        if config.allow_metrics:
            check_port_free(config.metrics_address, config.metrics_port, flags="metrics")
        traces = TraceManager(parse_trace_config(config.trace_config))
        self._stack.callback(traces.close)
        await self._load(metrics)
        regions = Regions(
            allow_client_shm=config.allow_client_shm, max_regions=config.max_shared_memory_regions
        )
        self._stack.callback(regions.close)
        dataplane = DataPlane(self.manager)
        pool, limits = self._decoding()
        rooms = FrameRooms(self._decode_threads)
        triton = TritonService(
            dataplane,
            calls=Calls(),
            regions=regions,
            pictures=PicturePlane(pool, limits),
            traces=traces,
            logs=self._logs,
            server_id=config.server_id,
            strict_readiness=config.strict_readiness,
        )
        if config.allow_metrics:
            await self._serve_metrics(metrics, rooms)
        if config.allow_http:
            self._http = HttpServer(http_settings, triton)
            self.http_port = await self._http.start()
        if config.allow_grpc:
            faces = FacePlane(
                dataplane,
                pool,
                limits,
                max_faces=config.max_embed_faces,
                max_held_bytes=config.max_held_image_bytes,
            )
            self._grpc = GrpcServer(
                grpc_settings, config, dataplane, triton, faces, rooms=rooms, experiments=self.experiments
            )
            self.grpc_port = await self._grpc.start()
        self._log_start()

    async def _load(self, metrics: MetricsSettings) -> None:
        config = self.config
        environment = OrtEnvironment.detect()
        for warning in environment.warnings:
            log.warning("engine", detail=warning, who="operator")
        self._budget = read_cpu_budget(config.cpu_threads)
        clock = MonotonicClock()
        tuner = (
            LayoutTuner(limit_s=config.measure_layout_secs, clock=clock) if config.measure_layout else None
        )
        remote = _remote_engine(config)
        if remote is not None:
            self._stack.callback(remote.fleet.close)
        loader = RepositoryLoader(
            environment,
            self._budget,
            auto_complete=not config.disable_auto_complete_config,
            default_max_batch_size=config.default_max_batch_size,
            config_name=config.model_config_name,
            tuner=tuner,
            engines=self._engines(environment),
            profiles=_profiles(config),
            remote=remote,
        )
        self.experiments = self._experiments()
        self.manager = ModelManager(
            loader,
            clock=clock,
            max_queue_size=config.max_queue_size,
            load_threads=config.model_load_thread_count,
            new_statistics=statistics_factory(metrics),
            mode=ControlMode(config.model_control_mode),
            roots=config.model_repository,
            load_retries=config.model_load_retry_count,
            poll_secs=config.repository_poll_secs,
            admission_control=config.admission_control,
            max_ragged_batch_bytes=config.max_ragged_batch_bytes,
            parts=_shared_parts(config),
            find_versions=None if remote is None else remote.find_versions,
            quiet_secs=config.repository_quiet_secs,
            watch=config.repository_watch,
            ready_marker=config.repository_ready_marker,
            allow_interface_change=config.allow_interface_change,
            ready_while_loading=config.ready_while_loading,
            experiments=self.experiments,
        )
        self._stack.push_async_callback(self.manager.close)
        # Before the manager waits for loads, some of which wait for an engine.
        self._stack.callback(self._engine_builder.stop)
        # OpenCV would start a thread for each core of the host in each decode thread.
        cv2.setNumThreads(1)
        await self.manager.start(config.load_model)
        if tuner is not None:
            tuner.serving = True
        self._log_budget()
        self._log_profiles()
        if config.exit_on_error and not self.manager.all_ready():
            raise InvalidArgumentError(
                f"not every model could be loaded: {_listed(self.manager.not_ready())}; the log says why"
                f"{_check_advice(config)} (--exit-on-error=false serves the others)"
            )

    def _experiments(self) -> Experiments:
        config = self.config
        settings = AsideSettings(
            budget_cpus=default_budget(read_cpu_quota()),
            max_pending=config.shadow_max_pending,
            max_pending_bytes=config.shadow_max_pending_bytes,
            timeout_s=config.shadow_timeout_secs,
            auto_complete=not config.disable_auto_complete_config,
            default_max_batch_size=config.default_max_batch_size,
        )
        experiments = Experiments(
            settings,
            folder=Path(config.experiment_directory) if config.experiment_directory else None,
            tick_s=config.experiment_interval_secs,
        )
        self._stack.push_async_callback(experiments.close)
        return experiments

    def _engines(self, environment: OrtEnvironment) -> EngineService | None:
        self._stack.push_async_callback(self._close_builder)
        config = self.config
        return open_engine_service(
            environment,
            self._engine_builder,
            root=config.tensorrt_cache_directory or default_cache_root(os.environ),
            max_bytes=config.tensorrt_cache_max_bytes,
        )

    async def _close_builder(self) -> None:
        """Join the builder's thread; a build at work cannot be interrupted and is left behind."""
        self.builder_ended = await asyncio.to_thread(self._engine_builder.close, _BUILDER_STOP_S)
        if not self.builder_ended:
            log.warning("engine build left behind", detail="it ends with the process", who="operator")

    async def _serve_metrics(self, settings: MetricsSettings, rooms: FrameRooms) -> None:
        config = self.config
        server = MetricsServer(
            config.metrics_address,
            config.metrics_port,
            view=ManagerView(self.manager, rooms, self.experiments),
            settings=settings,
        )
        self.metrics_port = await server.start()
        self._stack.push_async_callback(server.stop)

    @property
    def _decode_threads(self) -> int:
        return self.config.decode_threads or self._budget.threads

    def _log_budget(self) -> None:
        """One line with all that may compute: models loaded later say the same when they are ready."""
        log.info(
            "cpu budget",
            threads=self._budget.threads,
            reason=self._budget.reason,
            decode_threads=self._decode_threads,
            models=self.manager.layouts(),
        )

    def _log_profiles(self) -> None:
        """Name models that are to be profiled and are not there; in modes other than none they may come."""
        missing = sorted({*self.config.profile_model} - {*self.manager.model_names()})
        if missing and self.config.model_control_mode == "none":
            detail = f"no model of --profile-model={', '.join(missing)} is in the repository"
            log.warning("nothing to profile", detail=detail, who="operator")

    def _decoding(self) -> tuple[DecodePool, ImageLimits]:
        """The threads that decode pictures, and what they accept."""
        config = self.config
        pool = DecodePool(self._decode_threads, config.max_pending_images)
        self._stack.callback(pool.close)
        return pool, ImageLimits(max_bytes=config.max_image_bytes, max_pixels=config.max_image_pixels)

    def _addresses(self) -> dict[str, str]:
        """Where each front end that is allowed listens."""
        config = self.config
        ports = {
            "grpc": (config.grpc_address, self.grpc_port, config.allow_grpc),
            "http": (config.http_address, self.http_port, config.allow_http),
            "metrics": (config.metrics_address, self.metrics_port, config.allow_metrics),
        }
        return {name: f"{address}:{port}" for name, (address, port, allowed) in ports.items() if allowed}

    def _log_start(self) -> None:
        """Say where the server listens and what it serves; `ready` only if its probes say so too."""
        manager = self.manager
        models = [name for name in manager.model_names() if manager.is_ready(name, None)]
        if manager.all_ready():
            log.info("ready", **self._addresses(), models=models)
            return
        log.warning(
            "serving",
            **self._addresses(),
            models=models,
            not_ready=manager.not_ready(),
            detail="probes are told that the server is not ready (--strict-readiness=false serves regardless)"
            if self.config.strict_readiness
            else "not every model serves",
            who="model owner",
        )


def _profiles(config: ServerConfig) -> Profiles | None:
    if not config.profile_directory:
        return None
    return Profiles(Path(config.profile_directory), frozenset(config.profile_model))


def _check_advice(config: ServerConfig) -> str:
    """What else says why a model was not loaded; of those that an engine runs there is no file to look at."""
    if config.engine:
        return ""
    return f", and `naiad check {' '.join(map(str, config.model_repository))}` what to do"


def _remote_engine(config: ServerConfig) -> RemoteEngine | None:
    if not config.engine:
        return None
    fleet = Fleet(parse_engine(config.engine), timeout_s=config.engine_timeout_secs)
    return RemoteEngine(fleet, config.engine_instances)


def _shared_parts(config: ServerConfig) -> SharedParts:
    """What the schedulers of all models share, as far as it is switched on."""
    size = parse_cache_config(config.cache_config)
    totals = parse_rate_limit_resources(config.rate_limit_resource)
    return SharedParts(
        cache=ResponseCache(size) if size else None,
        rate_limiter=None if config.rate_limit == "off" else RateLimiter(totals),
        max_inline_us=config.max_inline_run_us,
    )


def _listed(names: Sequence[str], most: int = 10) -> str:
    """The first names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
