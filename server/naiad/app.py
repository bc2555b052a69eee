"""The composition root: builds every part in one written order, and closes them in the reverse."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Self

import cv2
import structlog

from naiad.core.clock import MonotonicClock
from naiad.core.errors import InvalidArgumentError, UnavailableError
from naiad.dataplane import DataPlane
from naiad.dataplane.decode_pool import DecodePool
from naiad.dataplane.faces import FacePlane
from naiad.lifecycle.loading import RepositoryLoader
from naiad.lifecycle.manager import ModelManager
from naiad.repository.layout import scan
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.threads import read_cpu_budget
from naiad.services.server import GrpcServer, check_port_free
from naiad.vision.images import ImageLimits

if TYPE_CHECKING:
    from naiad.config.server_config import ServerConfig

log = structlog.get_logger(__name__)


class NaiadServer:
    """A whole server in one event loop.

    Entering it loads the repository and opens the port; leaving it drains and closes. `drained` tells
    afterwards whether all accepted work was answered within the exit timeout.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self.grpc_port = 0
        self.drained = True
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
        self.drained = await self._grpc.stop(limit_s) and await self._instances_idle(deadline)
        if not self.drained:
            # What runs on an instance's thread cannot be stopped, so nothing below can be closed either.
            log.error("Exit timeout expired. Exiting immediately.", exit_timeout_secs=limit_s, who="operator")
            return
        await self._stack.aclose()
        log.info("stopped")

    async def _instances_idle(self, deadline: float) -> bool:
        """Wait for what still runs though its callers have left; False if it outlasts the exit timeout."""
        try:
            await asyncio.wait_for(self.manager.drain(), max(0.1, deadline - time.monotonic()))
        except TimeoutError:
            return False
        return True

    async def _start(self) -> None:
        config = self.config
        check_port_free(config.grpc_address, config.grpc_port)
        environment = OrtEnvironment.detect()
        for warning in environment.warnings:
            log.warning("engine", detail=warning, who="operator")
        budget = read_cpu_budget(config.cpu_threads)
        log.info("cpu budget", threads=budget.threads, reason=budget.reason)
        repository = scan(config.model_repository)
        loader = RepositoryLoader(
            environment,
            budget,
            auto_complete=not config.disable_auto_complete_config,
            default_max_batch_size=config.default_max_batch_size,
        )
        self.manager = ModelManager(
            loader,
            clock=MonotonicClock(),
            max_queue_size=config.max_queue_size,
            load_threads=config.model_load_thread_count,
        )
        self._stack.push_async_callback(self.manager.close)
        if not repository.models and not repository.problems:
            folders = ", ".join(map(str, config.model_repository))
            log.warning("no model to serve", model_repository=folders, who="operator")
        for name, reason in repository.problems.items():
            self.manager.refuse(name, UnavailableError(reason))
        await self.manager.load_all(repository.models)
        if config.exit_on_error and not self.manager.all_ready():
            raise InvalidArgumentError(
                "not every model could be loaded; the log says which and why, and "
                f"`naiad check {' '.join(map(str, config.model_repository))}` what to do "
                "(--exit-on-error=false serves the others)"
            )
        pool = DecodePool(config.decode_threads or budget.threads, config.max_pending_images)
        self._stack.callback(pool.close)
        # OpenCV would start a thread for each core of the host in each decode thread.
        cv2.setNumThreads(1)
        dataplane = DataPlane(self.manager)
        limits = ImageLimits(max_bytes=config.max_image_bytes, max_pixels=config.max_image_pixels)
        self._grpc = GrpcServer(config, dataplane, FacePlane(dataplane, pool, limits))
        self.grpc_port = await self._grpc.start()
        log.info(
            "ready",
            grpc=f"{config.grpc_address}:{self.grpc_port}",
            models=[model.name for model in self.manager.models() if self.manager.is_ready(model.name, None)],
        )
