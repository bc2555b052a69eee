"""From a version's request to its engine: built once, found again, set aside when it is no good."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from structlog.testing import capture_logs
from support.runtime import config
from support.sessions import DoublingSession

from naiad.config.model_config import TensorConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import InternalError, UnsupportedError
from naiad.runtime.graph import PreparedModel
from naiad.runtime.tensorrt.build import BuildState
from naiad.runtime.tensorrt.builder import EngineBuilder
from naiad.runtime.tensorrt.cache import EngineCache
from naiad.runtime.tensorrt.device import GpuKind
from naiad.runtime.tensorrt.plan import EnginePlan
from naiad.runtime.tensorrt.service import EngineRequest, EngineService, EngineUnit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from naiad.core.tensors import Array, Tensors
    from naiad.runtime.session import Session

WAIT_S = 20
MODEL = config(
    max_batch_size=4,
    inputs=(TensorConfig("INPUT0", DataType.FP32, (2,)),),
    outputs=(TensorConfig("OUTPUT0", DataType.FP32, (2,)),),
)


class Wrong(DoublingSession):
    """Answers four times the input in place of twice."""

    def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
        return {name: array * 2 for name, array in super().run(inputs, outputs).items()}


class Machine:
    """GPUs whose TensorRT writes an engine into the folder that its options name, if there is none."""

    def __init__(self) -> None:
        self.kinds = {0: GpuKind("NVIDIA H100", "9.0"), 1: GpuKind("NVIDIA H100", "9.0")}
        self.opened: list[dict[str, str]] = []
        self.built = 0
        self.engine: type[DoublingSession] = DoublingSession
        self.refuses: set[bytes] = set()
        self.writes = True
        self.sessions: list[DoublingSession] = []
        self.gate = threading.Event()
        self.gate.set()

    def gpu_kind(self, gpu: int) -> GpuKind:
        return self.kinds[gpu]

    def tensorrt_version(self) -> str:
        return "101303"

    def open(self, options: Mapping[str, str]) -> Sequence[Session]:
        assert self.gate.wait(WAIT_S)
        self.opened.append(dict(options))
        if "trt_engine_cache_path" in options and self.writes:
            self._use_folder(options["trt_engine_cache_path"])
        self.sessions.append(self.engine())
        return [self.sessions[-1]]

    def _use_folder(self, folder: str) -> None:
        from pathlib import Path  # noqa: PLC0415  # of this method alone

        engine = Path(folder) / "graph_sm90.engine"
        if engine.exists():
            if engine.read_bytes() in self.refuses:
                raise InternalError("the engine is of another version")
            return
        self.built += 1
        engine.write_bytes(f"engine {self.built}".encode())

    def unit(self, gpu: int = 0) -> EngineUnit:
        cuda = DoublingSession()
        return EngineUnit(gpu, (cuda,), cuda, self.open)


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def builder() -> Iterator[EngineBuilder]:
    made = EngineBuilder()
    yield made
    made.close(WAIT_S)


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache", 1_000_000, lock_timeout_s=WAIT_S)


@pytest.fixture
def service(machine: Machine, builder: EngineBuilder, cache: EngineCache) -> EngineService:
    return EngineService(builder, machine, onnxruntime="1.31.1", cache=cache)


@pytest.fixture
def request_for(tmp_path: Path, machine: Machine) -> Any:
    """Makes a request of one instance on GPU 0, unless `fields` say otherwise."""
    path = tmp_path / "1" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(b"graph")

    def make(**fields: Any) -> EngineRequest:
        values: dict[str, Any] = {
            "model": "m/1",
            "path": path,
            "prepared": PreparedModel(str(path)),
            "config": MODEL,
            "plan": EnginePlan({"trt_fp16_enable": "True", "trt_engine_cache_path": "/evil"}, (1, 2, 4)),
            "units": (machine.unit(),),
        }
        return EngineRequest(**(values | fields))

    return make


def test_an_engine_is_built_behind_what_serves_and_swapped_in(
    service: EngineService, machine: Machine, request_for: Any
) -> None:
    machine.gate.clear()
    request = request_for()
    build, slots = service.start(request)
    [(cuda, slot)] = slots.items()
    assert not build.status.state.is_final, "nobody waits for it"
    slot.run({"INPUT0": np.ones((1, 2), np.float32)}, ["OUTPUT0"])
    machine.gate.set()
    assert build.wait(WAIT_S)
    assert build.status.state is BuildState.SWAPPED
    [engine] = machine.sessions
    assert sorted(set(engine.batches)) == [1, 2, 4], "every batch size is warm"
    slot.run({"INPUT0": np.ones((3, 2), np.float32)}, ["OUTPUT0"])
    assert engine.batches[-1] == 3
    assert isinstance(cuda, DoublingSession)


def test_the_options_are_the_plans_with_our_folders_and_the_instances_gpu(
    service: EngineService, machine: Machine, cache: EngineCache, request_for: Any
) -> None:
    build, _ = service.start(request_for(units=(machine.unit(1),)))
    assert build.wait(WAIT_S)
    [options] = machine.opened
    folder = options.pop("trt_engine_cache_path")
    timings = options.pop("trt_timing_cache_path")
    assert folder.startswith(str(cache.root))
    assert timings.startswith(str(cache.root))
    assert options == {
        "trt_fp16_enable": "True",
        "device_id": "1",
        "trt_engine_cache_enable": "True",
        "trt_timing_cache_enable": "True",
    }


def test_instances_on_gpus_of_one_kind_share_an_engine_and_others_have_their_own(
    service: EngineService, machine: Machine, request_for: Any
) -> None:
    machine.kinds[2] = GpuKind("NVIDIA L4", "8.9")
    build, slots = service.start(request_for(units=(machine.unit(0), machine.unit(2), machine.unit(1))))
    assert build.wait(WAIT_S)
    assert build.status.state is BuildState.SWAPPED
    assert machine.built == 2
    # Each slot runs the session of its own GPU, in whatever order they were opened.
    for gpu, slot in zip((0, 2, 1), slots.values(), strict=True):
        [index] = [number for number, each in enumerate(machine.opened) if each["device_id"] == str(gpu)]
        machine.sessions[index].batches.clear()
        slot.run({"INPUT0": np.ones((1, 2), np.float32)}, ["OUTPUT0"])
        assert machine.sessions[index].batches == [1]


def test_an_engine_of_the_cache_is_there_when_the_load_is_done(
    service: EngineService, machine: Machine, request_for: Any
) -> None:
    first, _ = service.start(request_for())
    assert first.wait(WAIT_S)
    again, _ = service.start(request_for())
    assert again.status.state is BuildState.SWAPPED, "without waiting for it"
    assert machine.built == 1
    other, _ = service.start(request_for(plan=EnginePlan({}, (1,))))
    assert other.wait(WAIT_S)
    assert machine.built == 2, "other options are another engine"


@pytest.mark.parametrize("always", [False, True])
def test_blocking_waits_for_the_engine(
    machine: Machine, builder: EngineBuilder, request_for: Any, always: bool
) -> None:
    service = EngineService(builder, machine, onnxruntime="1", always_blocking=always)
    plan = EnginePlan({}, (1,), blocking=not always)
    build, _ = service.start(request_for(plan=plan))
    assert build.status.state is BuildState.SWAPPED


def test_without_a_cache_the_engine_is_built_in_memory(
    machine: Machine, builder: EngineBuilder, request_for: Any
) -> None:
    build, _ = EngineService(builder, machine, onnxruntime="1").start(request_for())
    assert build.wait(WAIT_S)
    assert machine.opened[0]["trt_engine_cache_enable"] == "False"
    assert machine.opened[0]["trt_timing_cache_enable"] == "False"


def test_a_config_can_switch_either_cache_off(
    service: EngineService, machine: Machine, cache: EngineCache, request_for: Any
) -> None:
    for switch in ("trt_timing_cache_enable", "trt_engine_cache_enable"):
        build, _ = service.start(request_for(plan=EnginePlan({switch: "False"}, (1,))))
        assert build.wait(WAIT_S)
    timing_off, engine_off = machine.opened
    assert "trt_timing_cache_path" not in timing_off
    assert "trt_engine_cache_path" in timing_off
    assert "trt_engine_cache_path" not in engine_off


def test_an_engine_that_does_not_open_is_set_aside_and_built_anew(
    service: EngineService, machine: Machine, request_for: Any
) -> None:
    first, _ = service.start(request_for())
    assert first.wait(WAIT_S)
    machine.refuses.add(b"engine 1")
    with capture_logs() as log:
        again, _ = service.start(request_for())
        assert again.wait(WAIT_S)
    assert again.status.state is BuildState.SWAPPED
    assert machine.built == 2
    [warning] = [line for line in log if line["event"] == "tensorrt cache"]
    assert "was set aside: the engine is of another version" in warning["detail"]


def test_an_engine_that_answers_otherwise_is_not_used_and_is_not_trusted_next_time_either(
    service: EngineService, machine: Machine, request_for: Any
) -> None:
    machine.engine = Wrong
    for _ in range(2):
        build, slots = service.start(request_for())
        assert build.wait(WAIT_S)
        assert build.status.state is BuildState.FAILED
        assert "with INPUT0 [1, 2] its output 'OUTPUT0' is off CUDA's by 1 in the mean" in build.status.reason
        assert machine.sessions[-1].closed
        [(cuda, slot)] = slots.items()
        slot.run({"INPUT0": np.ones((1, 2), np.float32)}, ["OUTPUT0"])
        assert isinstance(cuda, DoublingSession)
        assert not cuda.closed


def test_a_graph_that_tensorrt_takes_no_part_of_keeps_cuda(
    service: EngineService, machine: Machine, request_for: Any
) -> None:
    machine.writes = False
    build, _ = service.start(request_for())
    assert build.wait(WAIT_S)
    assert build.status.reason == "TensorRT took no part of the graph, and made no engine"
    assert machine.sessions[0].closed


def test_lanes_beyond_those_that_serve_are_closed(
    service: EngineService, machine: Machine, request_for: Any
) -> None:
    """CUDA may have had too little memory for all of them."""
    unit = machine.unit()
    build, _ = service.start(
        request_for(units=(replace(unit, open=lambda options: [*unit.open(options), *unit.open(options)]),))
    )
    assert build.wait(WAIT_S)
    assert build.status.state is BuildState.SWAPPED
    assert [session.closed for session in machine.sessions] == [False, True]


def test_fewer_lanes_than_serve_are_not_enough(
    service: EngineService, machine: Machine, request_for: Any
) -> None:
    unit = machine.unit()
    two = replace(unit, serving=(*unit.serving, DoublingSession()))
    build, _ = service.start(request_for(units=(two,)))
    assert build.wait(WAIT_S)
    assert "room for 1 lanes on TensorRT beside the 2" in build.status.reason
    assert machine.sessions[0].closed


def test_inputs_that_cuda_refuses_prove_nothing(
    service: EngineService, machine: Machine, request_for: Any
) -> None:
    class Refusing(DoublingSession):
        def run(self, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Array]:
            raise InternalError("index out of range")

    build, _ = service.start(request_for(units=(replace(machine.unit(), reference=Refusing()),)))
    assert build.wait(WAIT_S)
    assert "CUDA takes none of the inputs tried: index out of range" in build.status.reason


def test_a_cancelled_build_closes_what_it_had_opened(
    service: EngineService, machine: Machine, request_for: Any
) -> None:
    machine.gate.clear()
    build, _ = service.start(request_for(units=(machine.unit(0), machine.unit(1))))
    build.cancel()
    machine.gate.set()
    again, _ = service.start(request_for())
    assert again.wait(WAIT_S)
    assert build.status.state is BuildState.CANCELLED
    assert [session.closed for session in machine.sessions] == [True] * (len(machine.sessions) - 1) + [False]


def test_a_calibration_table_lies_beside_the_model(
    service: EngineService, machine: Machine, request_for: Any
) -> None:
    request = request_for(plan=EnginePlan({"trt_int8_calibration_table_name": "t.table"}, (1,)))
    with pytest.raises(UnsupportedError, match=r"'t\.table' is not beside the model file"):
        service.start(request)
    table = request.path.parent / "t.table"
    table.write_bytes(b"ranges")
    build, _ = service.start(request)
    assert build.wait(WAIT_S)
    assert machine.opened[0]["trt_int8_calibration_table_name"] == str(table)
