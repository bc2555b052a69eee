"""A whole server whose models ask for TensorRT: it serves from the first, and tells when the engine serves."""

from __future__ import annotations

import asyncio
import urllib.request
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from onnx import TensorProto
from structlog.testing import capture_logs
from support.engines import ENVIRONMENT, FakeTensorRt, fake_tensorrt
from support.onnx_models import add_sub
from support.repositories import add_model
from support.servers import address, metrics_address, server
from support.triton import infer_input
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

import naiad.app.engine_builds
from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.providers import CPU, CUDA, TENSORRT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from naiad.app import NaiadServer

WAIT_S = 30
CONFIG = """
max_batch_size: 4
input [
  { name: "INPUT0" data_type: TYPE_FP32 dims: [ 16 ] }, { name: "INPUT1" data_type: TYPE_FP32 dims: [ 16 ] }
]
output [
  { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 16 ] }, { name: "OUTPUT1" data_type: TYPE_FP32 dims: [ 16 ] }
]
dynamic_batching {}
optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }
"""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorRt]:
    with fake_tensorrt(monkeypatch) as made:
        monkeypatch.setattr(OrtEnvironment, "detect", lambda: ENVIRONMENT)
        monkeypatch.setattr("naiad.runtime.tensorrt.setup.LibraryDriver", lambda: made)
        yield made


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    add_model(tmp_path / "models", "fast", add_sub(TensorProto.FLOAT), CONFIG)
    return tmp_path / "models"


def start(repository: Path, tmp_path: Path) -> NaiadServer:
    return server(repository, tensorrt_cache_directory=tmp_path / "cache")


async def told(running: NaiadServer) -> tuple[list[str], list[str]]:
    """(execution providers, fallbacks) of ModelMetadata's trailing metadata."""
    async with grpc.aio.insecure_channel(address(running)) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call = stub.ModelMetadata(pb.ModelMetadataRequest(name="fast"))
        await call
        found = [(str(key), str(value)) for key, value in await call.trailing_metadata()]
    [providers] = [value for key, value in found if key == "naiad-execution-providers"]
    return providers.split(","), [value for key, value in found if key == "naiad-fallback"]


def engine_states(running: NaiadServer) -> list[str]:
    """The states whose gauge is 1."""
    with urllib.request.urlopen(f"http://{metrics_address(running)}/metrics", timeout=WAIT_S) as page:
        lines = page.read().decode().splitlines()
    ours = [
        line for line in lines if line.startswith("naiad_tensorrt_engine_state{") and line.endswith(" 1.0")
    ]
    return [line.split('state="')[1].split('"')[0] for line in ours]


async def test_the_engine_takes_over_under_traffic_and_everything_says_so(
    gpu: FakeTensorRt, repository: Path, tmp_path: Path
) -> None:
    with capture_logs() as log:
        async with (
            start(repository, tmp_path) as running,
            triton.InferenceServerClient(address(running)) as client,
        ):
            assert (await told(running))[0] == [CUDA, CPU]
            assert "yet: its engine is building" in (await told(running))[1][0]
            assert await asyncio.to_thread(engine_states, running) == ["building"]

            async def ask(number: int) -> None:
                array = np.full((1 + number % 3, 16), number, np.float32)
                result = await client.infer(
                    "fast", [infer_input("INPUT0", array), infer_input("INPUT1", array)]
                )
                np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array * 2)

            [serving] = running.manager.ready_versions("fast")
            loaded = serving.model.version
            assert loaded.engine is not None
            assert loaded.engine.build is not None
            await asyncio.gather(*map(ask, range(20)))
            gpu.gate.set()
            while not loaded.engine.build.wait(0):
                await asyncio.gather(*map(ask, range(20)))
            await asyncio.gather(*map(ask, range(20)))
            assert await told(running) == ([TENSORRT, CUDA, CPU], [])
            assert await asyncio.to_thread(engine_states, running) == ["swapped"]
            [counted] = (await client.get_inference_statistics("fast")).model_stats
            assert counted.inference_stats.fail.count == 0
    assert [line["state"] for line in log if line["event"] == "tensorrt engine"] == [
        "building",
        "verifying",
        "swapped",
    ]
    assert [line for line in log if line["log_level"] == "warning"] == []


async def test_the_server_ends_while_an_engine_is_built(
    gpu: FakeTensorRt, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build cannot be interrupted; whoever ends the process must know that it is still there."""
    monkeypatch.setattr(naiad.app.engine_builds, "_BUILDER_STOP_S", 0.0)
    running = start(repository, tmp_path)
    async with running:
        assert await asyncio.to_thread(engine_states, running) == ["building"]
    assert (running.drained, running.builder_ended) == (True, False)
    gpu.gate.set()
    assert await asyncio.to_thread(running._builds._builder.close, WAIT_S)


async def test_a_load_that_waits_for_its_engine_ends_with_the_server(
    gpu: FakeTensorRt, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(naiad.app.engine_builds, "_BUILDER_STOP_S", 0.0)
    with (repository / "fast" / "config.pbtxt").open("a") as file:
        file.write('parameters { key: "naiad.tensorrt_build" value { string_value: "blocking" } }')
    running = server(repository, tensorrt_cache_directory=tmp_path / "cache", model_control_mode="explicit")
    async with running, triton.InferenceServerClient(address(running)) as client:
        loading = asyncio.create_task(client.load_model("fast"))
        assert await asyncio.to_thread(gpu.reached.wait, WAIT_S)
        assert not loading.done()
        assert not running.manager.is_ready("fast", None)
        loading.cancel()
    assert running.drained
    gpu.gate.set()
    assert await asyncio.to_thread(running._builds._builder.close, WAIT_S)
