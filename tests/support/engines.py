"""A GPU with TensorRT for tests on the CPU: ONNX Runtime's CPU sessions under the providers' names."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.gpu import HostDriver
from support.runtime import CPU_PLAN

import naiad.runtime.loader
import naiad.runtime.places
from naiad.runtime.cuda.lanes import open_lanes
from naiad.runtime.onnx_session import OnnxSession, open_session
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.providers import CPU, CUDA, TENSORRT
from naiad.runtime.tensorrt.device import GpuKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from naiad.config.model_config import ModelConfig
    from naiad.runtime.graph import PreparedModel
    from naiad.runtime.providers import ProviderPlan

ENVIRONMENT = OrtEnvironment("1.31.1", (TENSORRT, CUDA, CPU), gpu_count=1)
GATE_S = 30


@dataclass
class FakeTensorRt:
    """Opens sessions under the names that the plan has, and writes an engine where TensorRT would.

    It builds when the `gate` is open; `reached` says that it stands there. `opened` has the providers of each session, `options` those of TensorRT.
    `engine_model` is what it runs in place of the model; `drops` is why the engine goes on without it.
    """

    gate: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)
    opened: list[tuple[str, ...]] = field(default_factory=list)
    options: list[dict[str, str]] = field(default_factory=list)
    engine_model: PreparedModel | None = None
    drops: str = ""

    def open(
        self, prepared: PreparedModel, model: ModelConfig, plan: ProviderPlan, *threads: int, **_: Any
    ) -> OnnxSession:
        """In the place of `open_session`."""
        names = plan.names
        if TENSORRT in names:
            self.reached.set()
            assert self.gate.wait(GATE_S)
            self.options.append(dict(plan.providers[0].options))
            prepared = self.engine_model or prepared
            (Path(self.options[-1]["trt_engine_cache_path"]) / "graph.engine").write_bytes(b"engine")
        session = open_session(prepared, model, CPU_PLAN, *threads)
        self.opened.append(names)
        session.providers = names
        if TENSORRT in names and self.drops:
            session.dropped = {TENSORRT: self.drops}
            session.providers = names[1:]
        return session

    def gpu_kind(self, gpu: int) -> GpuKind:
        """One kind for all."""
        return GpuKind("NVIDIA H100", "9.0")

    def tensorrt_version(self) -> str:
        """Some version."""
        return "101303"


@contextmanager
def fake_tensorrt(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorRt]:
    """Let versions load on such a GPU; at the end no build waits any more."""
    made = FakeTensorRt()
    monkeypatch.setattr(naiad.runtime.loader, "open_session", made.open)
    lanes = partial(open_lanes, load=lambda device_id: HostDriver())
    monkeypatch.setattr(naiad.runtime.places, "open_lanes", lanes)
    try:
        yield made
    finally:
        made.gate.set()
