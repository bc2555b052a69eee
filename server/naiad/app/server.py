"""A whole server: its start in one written order, its end in the reverse, and what is told of both."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

import structlog

from naiad.app.engine_builds import EngineBuilds
from naiad.app.models import ServedModels
from naiad.dataplane import DataPlane
from naiad.dataplane.decode_pool import DecodePool
from naiad.dataplane.faces import FacePlane
from naiad.dataplane.frames.rooms import FrameRooms
from naiad.dataplane.pictures import PicturePlane
from naiad.services.calls import Calls
from naiad.services.grpc_settings import GrpcSettings
from naiad.services.http import HttpServer, HttpSettings
from naiad.services.metrics import MetricsServer
from naiad.services.metrics_view import ManagerView
from naiad.services.server import GrpcServer, check_port_free
from naiad.services.shared_memory.regions import Regions
from naiad.services.triton import TritonService
from naiad.telemetry.log_settings import LogSettings
from naiad.telemetry.metrics import metrics_settings
from naiad.telemetry.tracing import TraceManager, parse_trace_config
from naiad.vision.images import ImageLimits

if TYPE_CHECKING:
    from naiad.config.server_config import ServerConfig
    from naiad.telemetry.metrics import MetricsSettings

log = structlog.get_logger(__name__)


class NaiadServer:
    """A whole server in one event loop.

    Entering it loads the repository and opens the ports; leaving it drains and closes. `drained` tells
    afterwards whether all accepted work was answered within the exit timeout. The ports are 0 where a front
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
        self._builds = EngineBuilds()
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
        await asyncio.to_thread(self._builds.stop)
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

    @property
    def builder_ended(self) -> bool:
        """Whether no build of an engine was left behind."""
        return self._builds.ended

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
        models = ServedModels(config, metrics, self._stack, self._builds)
        self.manager, self.experiments = models.manager, models.experiments
        await models.load()
        regions = Regions(
            allow_client_shm=config.allow_client_shm, max_regions=config.max_shared_memory_regions
        )
        self._stack.callback(regions.close)
        dataplane = DataPlane(self.manager)
        pool, limits = self._decoding(models.decode_threads)
        rooms = FrameRooms(models.decode_threads)
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

    def _decoding(self, threads: int) -> tuple[DecodePool, ImageLimits]:
        """The threads that decode pictures, and what they accept."""
        config = self.config
        pool = DecodePool(threads, config.max_pending_images)
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
