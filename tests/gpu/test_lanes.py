"""Lanes, buffers, buckets and CUDA graphs on a real GPU, each against the same graph on the CPU."""

from __future__ import annotations

import asyncio
import ctypes
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from onnx import TensorProto, helper, numpy_helper
from structlog.testing import capture_logs
from support.onnx_models import info, model
from support.repositories import add_model
from support.runtime import config, cpu_session, save
from support.servers import address, server
from support.triton import infer_input

from naiad.config.model_config import InstanceGroup, InstanceKind, TensorConfig
from naiad.core.datatypes import DataType
from naiad.runtime.cuda.driver import load_driver
from naiad.runtime.cuda.lanes import InstanceLanes, open_lanes
from naiad.runtime.cuda.settings import read_cuda_settings
from naiad.runtime.graph import prepare_model
from naiad.runtime.onnx_session import open_session
from naiad.runtime.providers import plan_providers

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import Array
    from naiad.runtime.onnx_session import OnnxSession
    from naiad.runtime.ort_environment import OrtEnvironment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SIDE = 32
TOLERANCE = 1e-2
"""CUDA multiplies FP32 with the 10 bits of TF32: about three decimal digits."""


def convolution() -> onnx.ModelProto:
    """The mean over each of 8 maps of a 3x3 convolution; INPUT `[N, 3, 32, 32]`, OUTPUT `[N, 8]`."""
    weights = np.random.default_rng(1).normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32)
    return model(
        [
            helper.make_node("Conv", ["INPUT", "weights"], ["maps"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["maps"], ["positive"]),
            helper.make_node("ReduceMean", ["positive", "axes"], ["OUTPUT"], keepdims=0),
        ],
        [info("INPUT", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [info("OUTPUT", TensorProto.FLOAT, ["N", 8])],
        [
            numpy_helper.from_array(weights, "weights"),
            helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3]),
        ],
    )


def branching() -> onnx.ModelProto:
    """The same with an If, which no CUDA graph can hold."""
    built = convolution()
    then = helper.make_graph(
        [helper.make_node("Identity", ["means"], ["a"])], "then", [], [info("a", TensorProto.FLOAT, None)]
    )
    otherwise = helper.make_graph(
        [helper.make_node("Neg", ["means"], ["b"])], "else", [], [info("b", TensorProto.FLOAT, None)]
    )
    built.graph.node[2].output[0] = "means"
    # By the pictures' values: a constant would be folded away when the session is opened.
    built.graph.node.append(helper.make_node("ReduceMax", ["INPUT"], ["largest"], keepdims=0))
    built.graph.node.append(helper.make_node("Greater", ["largest", "nothing"], ["yes"]))
    built.graph.node.append(
        helper.make_node("If", ["yes"], ["OUTPUT"], then_branch=then, else_branch=otherwise)
    )
    built.graph.initializer.append(helper.make_tensor("nothing", TensorProto.FLOAT, [], [-1.0]))
    return built


def described(**parameters: str) -> ModelConfig:
    return config(
        max_batch_size=8,
        inputs=(TensorConfig("INPUT", DataType.FP32, (3, SIDE, SIDE)),),
        outputs=(TensorConfig("OUTPUT", DataType.FP32, (8,)),),
        instance_groups=(InstanceGroup("g", InstanceKind.GPU, 1, (0,)),),
        parameters={f"naiad.{key}": value for key, value in parameters.items()},
    )


def pictures(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).random((count, 3, SIDE, SIDE)).astype(np.float32)


class Opened:
    """A model's lanes on GPU 0, and the same graph on the CPU."""

    def __init__(
        self, built: onnx.ModelProto, folder: Path, environment: OrtEnvironment, config: ModelConfig
    ) -> None:
        self.config = config
        self._prepared = prepare_model(save(built, folder), {tensor.name for tensor in config.inputs})
        self._plan = plan_providers(
            config, available=environment.available, gpu_count=environment.gpu_count, gpu=0
        )
        (folder / "cpu").mkdir()
        self.on_cpu = cpu_session(built, folder / "cpu", config)
        graphs = read_cuda_settings(config).graphs.value != "off"
        self.session = self.open(graphs=graphs)
        self.laned: InstanceLanes = open_lanes(
            self.session, config, name="m_0", gpu=0, reopen=lambda: self.open(graphs=False)
        )

    def open(self, *, graphs: bool) -> OnnxSession:
        return open_session(self._prepared, self.config, self._plan, 1, 1, graphs=graphs)

    def assert_right(self, rows: int, seed: int) -> None:
        sent = pictures(rows, seed)
        expected = self.on_cpu.run({"INPUT": sent}, ["OUTPUT"])["OUTPUT"]
        for lane in self.laned.lanes:
            found = lane.run({"INPUT": sent}, ["OUTPUT"])["OUTPUT"]
            assert np.allclose(found, expected, TOLERANCE, TOLERANCE)


def test_pinned_and_device_memory_hold_what_is_copied() -> None:
    driver = load_driver(0)
    driver.enter()
    stream = driver.open_stream()
    pinned, device = driver.allocate_pinned(1024), driver.allocate_device(1024)

    ctypes.memset(pinned, 7, 1024)
    driver.to_device(device, pinned, 1024, stream)
    driver.synchronize(stream)
    ctypes.memset(pinned, 0, 1024)
    driver.to_host(pinned, device, 1024, stream)
    driver.synchronize(stream)
    assert ctypes.string_at(pinned, 1024) == b"\x07" * 1024
    driver.free_device(device)
    driver.free_pinned(pinned)
    driver.close_stream(stream)


@pytest.mark.parametrize("graphs", ["on", "off"])
def test_every_batch_size_is_right_with_graphs_and_without(
    tmp_path: Path, gpu_environment: OrtEnvironment, graphs: str
) -> None:
    opened = Opened(convolution(), tmp_path, gpu_environment, described(cuda_graphs=graphs))
    captured = [note for note in opened.laned.notes if note.startswith("CUDA graphs of batch sizes")]
    assert bool(captured) == (graphs == "on"), opened.laned.notes
    for seed, rows in enumerate((1, 2, 3, 5, 8, 1, 7)):
        opened.assert_right(rows, seed)
    opened.laned.close()


def test_a_model_with_control_flow_serves_without_graphs_and_says_so(
    tmp_path: Path, gpu_environment: OrtEnvironment
) -> None:
    asked = described(cuda_graphs="on")
    opened = Opened(branching(), tmp_path, gpu_environment, replace(asked))
    notes = (*opened.session.notes, *opened.laned.notes)
    assert [note for note in notes if note.startswith("no CUDA graphs: ")], notes
    opened.assert_right(3, 0)
    opened.laned.close()


def test_both_lanes_at_once_are_right(tmp_path: Path, gpu_environment: OrtEnvironment) -> None:
    opened = Opened(convolution(), tmp_path, gpu_environment, described(cuda_graphs="on"))
    wrong: list[str] = []

    def run(index: int) -> None:
        lane = opened.laned.lanes[index]
        for seed in range(100):
            sent = pictures(1 + seed % 8, 1000 * index + seed)
            expected = opened.on_cpu.run({"INPUT": sent}, ["OUTPUT"])["OUTPUT"]
            found = lane.run({"INPUT": sent}, ["OUTPUT"])["OUTPUT"]
            if not np.allclose(found, expected, TOLERANCE, TOLERANCE):
                wrong.append(f"lane {index}, seed {seed}")

    threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    opened.laned.close()


def test_graphs_are_captured_while_other_models_run_and_allocate(
    tmp_path: Path, gpu_environment: OrtEnvironment
) -> None:
    """The engine captures in CUDA's global mode: without our threads' leave, both sides would fail."""
    (tmp_path / "serving").mkdir()
    serving = Opened(convolution(), tmp_path / "serving", gpu_environment, described(cuda_graphs="off"))
    stop, failed = threading.Event(), list[BaseException]()

    def serve() -> None:
        seed = 0
        while not stop.is_set():
            seed += 1
            try:
                # Of a shape that is not bound: the engine allocates and copies itself.
                serving.laned.lanes[0].run_plain({"INPUT": pictures(1 + seed % 60, seed)}, ["OUTPUT"])
            except Exception as error:  # noqa: BLE001  # it is this test's subject
                failed.append(error)
                return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        for attempt in range(5):
            folder = tmp_path / str(attempt)
            folder.mkdir()
            opened = Opened(convolution(), folder, gpu_environment, described(cuda_graphs="on"))
            assert any(note.startswith("CUDA graphs of") for note in opened.laned.notes), opened.laned.notes
            opened.assert_right(4, attempt)
            opened.laned.close()
    finally:
        stop.set()
        thread.join()
    assert failed == []
    serving.laned.close()


def test_closing_gives_the_memory_back(tmp_path: Path, gpu_environment: OrtEnvironment) -> None:
    """A first load pays for CUDA's own; the following ones leave nothing."""
    pynvml: Any = pytest.importorskip("pynvml")

    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    used: list[int] = []
    for attempt in range(6):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        Opened(convolution(), folder, gpu_environment, described(cuda_graphs="on")).laned.close()
        used.append(int(pynvml.nvmlDeviceGetMemoryInfo(handle).used))
    pynvml.nvmlShutdown()
    assert used[-1] - used[1] < 64 * 2**20, used


CONFIG = """
max_batch_size: 8
input [ { name: "INPUT" data_type: TYPE_FP32 dims: [ 3, 32, 32 ] } ]
output [ { name: "OUTPUT" data_type: TYPE_FP32 dims: [ 8 ] } ]
instance_group [ { kind: KIND_GPU count: 1 } ]
dynamic_batching { preferred_batch_size: [ 3 ] max_queue_delay_microseconds: 300000 }
parameters { key: "naiad.batch_buckets" value { string_value: "1,4,8" } }
parameters { key: "naiad.cuda_graphs" value { string_value: "on" } }
"""


async def test_a_served_batch_is_told_with_its_bucket_and_padding(tmp_path: Path) -> None:
    add_model(tmp_path, "m", convolution(), CONFIG)
    with capture_logs() as log:
        async with server(tmp_path) as running, triton.InferenceServerClient(address(running)) as client:
            results: list[Any] = await asyncio.gather(
                *(
                    client.infer(
                        "m", [infer_input("INPUT", pictures(1, seed))], parameters={"naiad_explain": True}
                    )
                    for seed in range(3)
                )
            )
            [serving] = running.manager.ready_versions("m")
            assert serving.instance_count == 1
            assert serving.statistics.padding_rows == 1
    assert any("CUDA graphs of batch sizes 1, 4, 8" in str(line.get("detail")) for line in log)
    for result in results:
        told = result.get_response().parameters
        assert told["naiad_batch_bucket"].int64_param == 4
        assert told["naiad_padding_rows"].int64_param == 1
        assert told["naiad_instance"].string_param == "m_0_0"
