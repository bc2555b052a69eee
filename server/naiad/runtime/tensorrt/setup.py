"""Puts the engine service of a process together, as far as the machine has what it takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from naiad.core.errors import UnavailableError
from naiad.runtime.providers import CUDA, TENSORRT
from naiad.runtime.tensorrt.cache import EngineCache
from naiad.runtime.tensorrt.device import LibraryDriver
from naiad.runtime.tensorrt.service import EngineService

if TYPE_CHECKING:
    from collections.abc import Mapping

    from naiad.runtime.ort_environment import OrtEnvironment
    from naiad.runtime.tensorrt.builder import EngineBuilder

log = structlog.get_logger(__name__)

_FOLDER = Path("naiad") / "tensorrt"


def default_cache_root(environment: Mapping[str, str]) -> Path:
    """Where engines are kept if nobody says so: what a user's caches are in, else the system's."""
    caches, home = environment.get("XDG_CACHE_HOME", ""), environment.get("HOME", "")
    if Path(caches).is_absolute():
        return Path(caches) / _FOLDER
    # The home of users that have none is often said to be the root.
    if Path(home).is_absolute() and Path(home) != Path("/"):
        return Path(home) / ".cache" / _FOLDER
    return Path("/var/cache") / _FOLDER


def open_engine_service(
    environment: OrtEnvironment,
    builder: EngineBuilder,
    *,
    root: Path,
    max_bytes: int,
    always_blocking: bool = False,
) -> EngineService | None:
    """The service, None where there is no TensorRT or no GPU: the models that ask for it say so then.

    A cache that cannot be used is named in a warning, and engines are built anew in each start.

    Args:
        environment: the installed engine.
        builder: runs the builds.
        root: the folder of the cache.
        max_bytes: the most that it may hold.
        always_blocking: wait for every engine, whatever the configs say.
    """
    if not {TENSORRT, CUDA} <= set(environment.available) or environment.gpu_count < 1:
        return None
    cache = None
    try:
        cache = EngineCache(root, max_bytes)
    except UnavailableError as error:
        log.warning(
            "tensorrt cache",
            detail=f"{error.message}; engines are built in each start (--tensorrt-cache-directory)",
            who="operator",
        )
    return EngineService(
        builder,
        LibraryDriver(),
        onnxruntime=environment.version,
        cache=cache,
        always_blocking=always_blocking,
    )
