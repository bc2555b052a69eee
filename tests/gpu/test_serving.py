"""A whole server with models on a GPU, judged by stock tritonclient."""

from __future__ import annotations

import asyncio
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

from naiad.runtime.providers import CPU, CUDA

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import onnx

    from naiad.app import NaiadServer
    from naiad.runtime.ort_environment import OrtEnvironment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
]  # the first CUDA session of a process takes its time

SIDE = 32

CONFIG = """
max_batch_size: 16
input [ { name: "INPUT" data_type: TYPE_%(type)s dims: [ 3, 32, 32 ] } ]
output [ { name: "OUTPUT" data_type: TYPE_%(type)s dims: [ 8 ] } ]
instance_group [ { kind: KIND_%(kind)s count: %(count)d } ]
"""
BATCHING = "dynamic_batching { preferred_batch_size: [ 16 ] max_queue_delay_microseconds: 200000 }\n"

TOLERANCE = 1e-2
"""CUDA multiplies FP32 with the 10 bits of TF32, and FP16 has as many: about three decimal digits."""


def convolution(dtype: type[np.generic] = np.float32) -> onnx.ModelProto:
    """The mean over each of 8 maps of a 3x3 convolution and Relu; INPUT `[N, 3, 32, 32]`, OUTPUT `[N, 8]`."""
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weights = np.random.default_rng(1).normal(0, 0.3, (8, 3, 3, 3)).astype(dtype)
    return model(
        [
            helper.make_node("Conv", ["INPUT", "weights"], ["maps"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["maps"], ["positive"]),
            helper.make_node("ReduceMean", ["positive", "axes"], ["OUTPUT"], keepdims=0),
        ],
        [info("INPUT", elem_type, ["N", 3, SIDE, SIDE])],
        [info("OUTPUT", elem_type, ["N", 8])],
        [
            numpy_helper.from_array(weights, "weights"),
            helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3]),
        ],
    )


def config(kind: str, *, datatype: str = "FP32", count: int = 1, more: str = "") -> str:
    return CONFIG % {"type": datatype, "kind": kind, "count": count} + more


def pictures(count: int, seed: int = 0, dtype: type[np.generic] = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3, SIDE, SIDE)).astype(dtype)


def assert_near(answer: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(answer, expected, rtol=TOLERANCE, atol=TOLERANCE)


async def infer(client: triton.InferenceServerClient, name: str, array: np.ndarray) -> np.ndarray:
    result = await client.infer(name, [infer_input("INPUT", array)])
    output: np.ndarray = result.as_numpy("OUTPUT")
    return output


async def told_providers(running: NaiadServer, name: str) -> tuple[list[str], list[str]]:
    """(execution providers, fallbacks) as ModelMetadata's trailing metadata says them to any client."""
    async with grpc.aio.insecure_channel(address(running)) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        call = stub.ModelMetadata(pb.ModelMetadataRequest(name=name))
        await call
        told: list[tuple[str, Any]] = list(await call.trailing_metadata())
    providers = [value for key, value in told if key == "naiad-execution-providers"]
    return providers[0].split(","), [str(value) for key, value in told if key == "naiad-fallback"]


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[NaiadServer]:
    """The same graph on the GPU, on the CPU, without an instance group, and in batches on the GPU."""
    built = convolution()
    add_model(tmp_path, "on_gpu", built, config("GPU"))
    add_model(tmp_path, "on_cpu", built, config("CPU"))
    add_model(tmp_path, "auto", built)
    add_model(tmp_path, "batched", built, config("GPU", more=BATCHING))
    async with server(tmp_path) as started:
        yield started


@pytest.fixture
async def client(running: NaiadServer) -> AsyncIterator[triton.InferenceServerClient]:
    async with triton.InferenceServerClient(address(running)) as connected:
        yield connected


async def test_kind_decides_where_a_model_runs_and_the_metadata_says_so(running: NaiadServer) -> None:
    """No group, as in most model repositories, means the GPU where there is one."""
    assert await told_providers(running, "on_gpu") == ([CUDA, CPU], [])
    assert await told_providers(running, "auto") == ([CUDA, CPU], [])
    assert await told_providers(running, "on_cpu") == ([CPU], [])


async def test_the_gpu_answers_what_the_cpu_answers(client: triton.InferenceServerClient) -> None:
    array = pictures(5)
    expected = await infer(client, "on_cpu", array)
    assert np.ptp(expected) > 0.1, "answers that are all alike would prove nothing"
    assert_near(await infer(client, "on_gpu", array), expected)


async def test_a_dynamic_batch_of_mixed_requests(client: triton.InferenceServerClient) -> None:
    """Requests of 1 to 4 pictures share runs, and each is given its own answers."""
    requests = [pictures(1 + index % 4, seed=index) for index in range(24)]
    expected = [await infer(client, "on_cpu", request) for request in requests]
    answers = await asyncio.gather(*(infer(client, "batched", request) for request in requests))
    for answer, wanted in zip(answers, expected, strict=True):
        assert_near(answer, wanted)
    [counted] = (await client.get_inference_statistics("batched")).model_stats
    assert counted.inference_count == sum(len(request) for request in requests)
    assert counted.execution_count < len(requests) / 2


async def test_each_instance_on_a_gpu_has_a_session_of_its_own(tmp_path: Path) -> None:
    """On the CPU instances share one session; on a GPU each has its own stream and buffers."""
    add_model(tmp_path, "on_gpu", convolution(), config("GPU", count=2))
    add_model(tmp_path, "on_cpu", convolution(), config("CPU", count=2))
    async with server(tmp_path) as running, triton.InferenceServerClient(address(running)) as client:
        for name, different in (("on_gpu", 2), ("on_cpu", 1)):
            [serving] = running.manager.ready_versions(name)
            sessions = [instance._session for instance in serving.scheduler._instances]  # type: ignore[attr-defined]  # of its schedulers
            assert len(sessions) == 2
            assert len({id(session) for session in sessions}) == different
        requests = [pictures(2, seed=index) for index in range(16)]
        expected = [await infer(client, "on_cpu", request) for request in requests]
        answers = await asyncio.gather(*(infer(client, "on_gpu", request) for request in requests))
        for answer, wanted in zip(answers, expected, strict=True):
            assert_near(answer, wanted)


async def test_fp16(tmp_path: Path) -> None:
    """Half precision in, half precision out, near the answer of the same weights in FP32."""
    add_model(tmp_path, "half", convolution(np.float16), config("GPU", datatype="FP16"))
    add_model(tmp_path, "full", convolution(), config("CPU"))
    async with server(tmp_path) as running, triton.InferenceServerClient(address(running)) as client:
        assert (await told_providers(running, "half"))[0] == [CUDA, CPU]
        answer = await infer(client, "half", pictures(3, dtype=np.float16))
        assert answer.dtype == np.float16
        assert_near(answer, await infer(client, "full", pictures(3)))


async def test_a_gpu_that_is_not_there_is_named(tmp_path: Path, gpu_environment: OrtEnvironment) -> None:
    """A group's `gpus` is the owner's word; no other GPU is taken in its place."""
    missing = gpu_environment.gpu_count
    group = f"instance_group [ {{ kind: KIND_GPU count: 1 gpus: [ {missing} ] }} ]"
    add_model(tmp_path, "lost", convolution(), group)
    async with server(tmp_path, exit_on_error=False, strict_readiness=False) as running:
        [entry] = running.manager.models()
        assert f"invalid or unsupported gpu id {missing}" in str(entry.versions[1].reason)
