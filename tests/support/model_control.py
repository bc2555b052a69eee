"""A manager over folders that tests write, with a loader that tests steer."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

from support.sessions import DoublingSession

from naiad.config.model_config import (
    DynamicBatching,
    ModelConfig,
    TensorConfig,
    VersionPolicy,
    VersionPolicyKind,
)
from naiad.core.clock import MonotonicClock
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.lifecycle.control import ControlMode
from naiad.lifecycle.loading import LoadedModel
from naiad.lifecycle.manager import ModelManager
from naiad.runtime.layout import InstanceLayout
from naiad.runtime.loaded import LoadedVersion
from naiad.runtime.warmup import WarmupReport

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.repository.layout import ModelFolder


def doubling_config(name: str = "m", **changes: object) -> ModelConfig:
    """The config of a DoublingSession: all versions, batches of up to 4, merged."""
    values: dict[str, object] = {
        "name": name,
        "max_batch_size": 4,
        "inputs": (TensorConfig("INPUT0", DataType.FP32, (2,)),),
        "outputs": (TensorConfig("OUTPUT0", DataType.FP32, (2,)),),
        "version_policy": VersionPolicy(VersionPolicyKind.ALL),
        "dynamic_batching": DynamicBatching(),
    }
    return ModelConfig(**(values | changes))  # type: ignore[arg-type]  # a test's shorthand


class SteeredLoader:
    """Loads DoublingSessions. A config is what `configs` says, and `wrong` in an override is refused.

    `labels` are those of each model's outputs. `broken` has errors by `model` (its config) or `model/version` (its load); `loads` counts by the latter.
    `completed` has configs, `warmups` reports of single versions by the latter too.
    `latest` are the sessions of the latest loads, `seen` each model's latest folder and the names of all below
    it. While `gate` is cleared, loads wait.
    """

    def __init__(self, session: DoublingSession | None = None) -> None:
        self.broken: dict[str, Exception] = {}
        self.configs: dict[str, ModelConfig] = {}
        self.labels: dict[str, dict[str, tuple[str, ...]]] = {}
        self.completed: dict[str, ModelConfig] = {}
        self.warmups: dict[str, WarmupReport] = {}
        self.loads: dict[str, int] = {}
        self.latest: dict[str, DoublingSession] = {}
        self.seen: dict[str, tuple[Path, list[str]]] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.began = threading.Semaphore(0)
        self._session = session

    def read_config(self, folder: ModelFolder, override: str | None = None) -> ModelConfig:
        """The model's config or the override's."""
        if folder.name in self.broken:
            raise self.broken[folder.name]
        if override == "wrong":
            raise InvalidArgumentError("the override is wrong")
        config = self.configs.get(folder.name, doubling_config(folder.name))
        return config if override is None else doubling_config(folder.name, parameters={"override": override})

    def load(self, folder: ModelFolder, version: int, config: ModelConfig) -> LoadedModel:
        """A new DoublingSession, unless the test gave one."""
        key = f"{folder.name}/{version}"
        self.loads[key] = self.loads.get(key, 0) + 1
        self.seen[folder.name] = (folder.path, sorted(path.name for path in folder.path.rglob("*")))
        self.began.release()
        self.gate.wait()
        if key in self.broken:
            raise self.broken[key]
        self.latest[key] = session = self._session or DoublingSession()
        loaded = LoadedVersion(
            config=self.completed.get(key, config),
            sessions=(session,),
            instance_names=(f"{folder.name}_0",),
            instance_providers=("CPUExecutionProvider",),
            execution_providers=("CPUExecutionProvider",),
            fallbacks=(),
            notes=(),
            layout=InstanceLayout(groups=(), instances=(), intra_op_threads=1, inter_op_threads=1, notes=()),
            warmup=self.warmups.get(key, WarmupReport(runs=())),
        )
        return LoadedModel(loaded, None, self.labels.get(folder.name, {}))


def steered_manager(
    loader: SteeredLoader, *roots: Path, mode: ControlMode = ControlMode.EXPLICIT, **settings: Any
) -> ModelManager:
    """A manager over the repositories; close it."""
    defaults: dict[str, Any] = {"clock": MonotonicClock(), "max_queue_size": 10, "load_threads": 2}
    return ModelManager(loader, mode=mode, roots=roots, **(defaults | settings))


def add_folders(root: Path, *names: str) -> None:
    """Make folders such as `m/1`."""
    for name in names:
        (root / name).mkdir(parents=True)


_hours = iter(range(1, 1_000_000))


def touch(path: Path) -> None:
    """Change a file or folder, an hour later than the last time: clocks of file systems are coarse."""
    later_ns = time.time_ns() + next(_hours) * 3_600_000_000_000
    if not path.exists():
        path.touch()
    os.utime(path, ns=(later_ns, later_ns))
