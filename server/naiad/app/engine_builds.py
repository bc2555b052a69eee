"""The builds of TensorRT's engines over a server's life: begun by loads, ended with it or left behind."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import structlog

from naiad.runtime.tensorrt.builder import EngineBuilder
from naiad.runtime.tensorrt.setup import default_cache_root, open_engine_service

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.runtime.ort_environment import OrtEnvironment
    from naiad.runtime.tensorrt.service import EngineService

log = structlog.get_logger(__name__)

_BUILDER_STOP_S = 2.0


class EngineBuilds:
    """Owns the thread that builds engines. `ended` tells after `close` whether no build was left behind."""

    def __init__(self) -> None:
        self.ended = True
        self._builder = EngineBuilder()

    def open_service(
        self, environment: OrtEnvironment, *, root: Path | None, max_bytes: int
    ) -> EngineService | None:
        """The service that loads ask for engines; None where the machine cannot have any.

        Args:
            environment: the installed engine.
            root: the folder of the cache; None for the user's own.
            max_bytes: the most that it may hold.
        """
        return open_engine_service(
            environment, self._builder, root=root or default_cache_root(os.environ), max_bytes=max_bytes
        )

    def stop(self) -> None:
        """Begin no further build: a load that waits for an engine goes on without. Safe to call twice."""
        self._builder.stop()

    async def close(self) -> None:
        """Join the builder's thread; a build at work cannot be interrupted and is left behind."""
        self.ended = await asyncio.to_thread(self._builder.close, _BUILDER_STOP_S)
        if not self.ended:
            log.warning("engine build left behind", detail="it ends with the process", who="operator")
