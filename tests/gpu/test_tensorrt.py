"""Engines of a real TensorRT: built behind CUDA, swapped in under traffic, found again by the next server."""

from __future__ import annotations

import asyncio
import ctypes
import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from onnx import TensorProto, helper, numpy_helper
from support.onnx_models import info, model
from support.repositories import add_model
from support.servers import address, server
from support.triton import infer_input
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from naiad.runtime.providers import CPU, CUDA, TENSORRT
from naiad.runtime.tensorrt.build import BuildState

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from naiad.app import NaiadServer
    from naiad.lifecycle.version import ServingVersion
    from naiad.runtime.ort_environment import OrtEnvironment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # an engine takes its time

LIBNVINFER = "libnvinfer.so.10"
"""What onnxruntime-gpu links; another major version is another soname."""

SIDE = 64
CONFIG = """
max_batch_size: 8
input [ { name: "INPUT" data_type: TYPE_FP32 dims: [ %(dims)s ] } ]
output [ { name: "OUTPUT" data_type: TYPE_FP32 dims: [ 16 ] } ]
instance_group [ { kind: KIND_GPU count: %(count)d } ]
dynamic_batching {}
optimization { execution_accelerators { gpu_execution_accelerator {
  name: "tensorrt" parameters { key: "precision_mode" value: "%(precision)s" }
} } }
"""
TOLERANCE = {"FP32": 1e-2, "FP16": 3e-2}
DEADLINE_S = 300.0


def convolutions(side: int | str = SIDE) -> onnx.ModelProto:
    """The mean over 16 maps after three 3x3 convolutions; INPUT `[N, 3, side, side]`, OUTPUT `[N, 16]`."""
    source = np.random.default_rng(1)
    nodes, weights, last, channels = [], [], "INPUT", 3
    for layer in range(3):
        values = source.normal(0, 0.2, (16, channels, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"weights{layer}"))
        nodes.append(helper.make_node("Conv", [last, f"weights{layer}"], [f"maps{layer}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"maps{layer}"], [f"positive{layer}"]))
        last, channels = f"positive{layer}", 16
    nodes.append(helper.make_node("ReduceMean", [last, "axes"], ["OUTPUT"], keepdims=0))
    return model(
        nodes,
        [info("INPUT", TensorProto.FLOAT, ["N", 3, side, side])],
        [info("OUTPUT", TensorProto.FLOAT, ["N", 16])],
        [*weights, helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])],
    )


def config(
    *, dims: str = f"3, {SIDE}, {SIDE}", count: int = 1, precision: str = "FP32", more: str = ""
) -> str:
    return CONFIG % {"dims": dims, "count": count, "precision": precision} + more


def parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'


BLOCKING = parameter("naiad.tensorrt_build", "blocking")


def pictures(count: int, seed: int = 0, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3, side, side)).astype(np.float32)


@pytest.fixture(autouse=True)
def _tensorrt(gpu_environment: OrtEnvironment) -> None:
    try:
        ctypes.CDLL(LIBNVINFER)
    except OSError:
        pytest.skip("TensorRT is not installed (the extra `tensorrt` brings it)")
    if TENSORRT not in gpu_environment.available:
        pytest.skip("this onnxruntime is built without TensorRT")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "models"


def start(repository: Path, cache: Path, **settings: Any) -> NaiadServer:
    return server(repository, tensorrt_cache_directory=cache, **settings)


def serving(running: NaiadServer, name: str = "accelerated") -> ServingVersion:
    [version] = running.manager.ready_versions(name)
    return version


async def finished(running: NaiadServer, name: str = "accelerated") -> BuildState:
    """The state that the build ends in."""
    loaded = serving(running, name).model.version
    assert loaded.engine is not None
    assert loaded.engine.build is not None, loaded.current_fallbacks
    assert await asyncio.to_thread(loaded.engine.build.wait, DEADLINE_S)
    status = loaded.engine.build.status
    assert status.state is not BuildState.FAILED, status.reason
    return status.state


async def infer(running: NaiadServer, array: np.ndarray, name: str = "accelerated") -> np.ndarray:
    async with triton.InferenceServerClient(address(running)) as client:
        result = await client.infer(name, [infer_input("INPUT", array)])
        output: np.ndarray = result.as_numpy("OUTPUT")
        return output


async def told(running: NaiadServer) -> tuple[list[str], list[str]]:
    """(execution providers, fallbacks) as ModelMetadata's trailing metadata says them to any client."""
    async with grpc.aio.insecure_channel(address(running)) as channel:
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelMetadata(
            pb.ModelMetadataRequest(name="accelerated")
        )
        await call
        found: list[tuple[str, Any]] = list(await call.trailing_metadata())
    providers = [value for key, value in found if key == "naiad-execution-providers"]
    return providers[0].split(","), [str(value) for key, value in found if key == "naiad-fallback"]


def metrics(running: NaiadServer) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{running.metrics_port}/metrics", timeout=30) as page:
        text: str = page.read().decode()
        return text


def engines(cache: Path) -> list[Path]:
    return sorted(cache.glob("v1/engines/*/*.engine"))


async def test_cuda_serves_until_the_engine_takes_its_place_and_no_request_fails(
    repository: Path, tmp_path: Path
) -> None:
    add_model(repository, "accelerated", convolutions(), config())
    async with start(repository, tmp_path / "cache") as running:
        providers, fallbacks = await told(running)
        if providers == [CUDA, CPU]:  # or the builder was faster than this question
            assert TENSORRT in fallbacks[0]
        expected = await infer(running, pictures(4))
        swapped = asyncio.create_task(finished(running))
        async with triton.InferenceServerClient(address(running)) as client:
            while not swapped.done():
                answers = await asyncio.gather(
                    *(client.infer("accelerated", [infer_input("INPUT", pictures(4))]) for _ in range(8))
                )
                for answer in answers:
                    np.testing.assert_allclose(answer.as_numpy("OUTPUT"), expected, rtol=1e-2, atol=1e-3)
        assert await swapped is BuildState.SWAPPED
        assert await told(running) == ([TENSORRT, CUDA, CPU], [])
        np.testing.assert_allclose(await infer(running, pictures(4)), expected, rtol=1e-2, atol=1e-3)
        text = await asyncio.to_thread(metrics, running)
        assert 'naiad_tensorrt_engine_state{model="accelerated",version="1",state="swapped"} 1.0' in text


async def test_the_next_server_finds_the_engine_and_is_ready_with_it(
    repository: Path, tmp_path: Path
) -> None:
    add_model(repository, "accelerated", convolutions(), config(more=BLOCKING))
    cache = tmp_path / "cache"
    async with start(repository, cache) as running:
        assert serving(running).execution_providers == (TENSORRT, CUDA, CPU)
    [engine] = engines(cache)
    built = engine.stat().st_mtime_ns
    (repository / "accelerated" / "config.pbtxt").write_text(config())
    async with start(repository, cache) as running:
        assert await finished(running) is BuildState.SWAPPED
    assert engines(cache) == [engine]
    assert engine.stat().st_mtime_ns == built


@pytest.mark.parametrize("precision", ["FP32", "FP16"])
async def test_every_batch_size_answers_as_cuda_does(
    precision: str, repository: Path, tmp_path: Path
) -> None:
    add_model(repository, "accelerated", convolutions(), config(precision=precision, more=BLOCKING))
    add_model(repository, "plain", convolutions(), config().split("optimization", maxsplit=1)[0])

    async with start(repository, tmp_path / "cache") as running:
        assert serving(running).execution_providers[0] == TENSORRT
        for size in range(1, 9):
            array = pictures(size, seed=size)
            expected = await infer(running, array, "plain")
            answer = await infer(running, array)
            assert np.abs(answer - expected).max() <= TOLERANCE[precision] * np.abs(expected).max()


async def test_two_instances_share_one_engine(repository: Path, tmp_path: Path) -> None:
    add_model(repository, "accelerated", convolutions(), config(count=2, more=BLOCKING))
    async with start(repository, tmp_path / "cache") as running:
        assert set(serving(running).instance_providers.values()) == {TENSORRT}
    assert len(engines(tmp_path / "cache")) == 1


async def test_an_entry_that_was_changed_is_built_anew(repository: Path, tmp_path: Path) -> None:
    add_model(repository, "accelerated", convolutions(), config(more=BLOCKING))
    cache = tmp_path / "cache"
    async with start(repository, cache):
        pass
    [engine] = engines(cache)
    engine.write_bytes(b"x" * engine.stat().st_size)
    async with start(repository, cache) as running:
        assert serving(running).execution_providers[0] == TENSORRT
        assert np.isfinite(await infer(running, pictures(2))).all()
    assert engines(cache)[0].read_bytes()[:2] != b"xx"


async def test_a_declared_range_is_served_and_what_is_beyond_is_refused(
    repository: Path, tmp_path: Path
) -> None:
    more = BLOCKING + parameter("naiad.tensorrt_shapes", "INPUT:3x32x32/3x64x64/3x96x96")
    add_model(repository, "accelerated", convolutions("S"), config(dims="3, -1, -1", more=more))
    async with start(repository, tmp_path / "cache") as running:
        assert serving(running).execution_providers[0] == TENSORRT
        for side in (32, 48, 96):
            assert (await infer(running, pictures(3, side=side))).shape == (3, 16)
        with pytest.raises(Exception, match=r"this model takes 3x32x32/3x64x64/3x96x96"):
            await infer(running, pictures(1, side=128))


async def test_an_unload_does_not_wait_for_the_build(repository: Path, tmp_path: Path) -> None:
    """A build of the highest level takes long enough to be met at work."""
    slow = config().replace(
        'value: "FP32" }', 'value: "FP32" } parameters { key: "trt_builder_optimization_level" value: "5" }'
    )
    add_model(repository, "accelerated", convolutions(), slow)
    async with start(repository, tmp_path / "cache", model_control_mode="explicit") as running:
        async with triton.InferenceServerClient(address(running)) as client:
            await client.load_model("accelerated")
            loaded = serving(running).model.version
            await asyncio.wait_for(client.unload_model("accelerated"), 30)
        assert loaded.engine is not None
        assert loaded.engine.build is not None
        assert await asyncio.to_thread(loaded.engine.build.wait, 30)
        assert loaded.engine.build.status.state in (BuildState.CANCELLED, BuildState.SWAPPED)
