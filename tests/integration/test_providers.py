"""A config that would rather have a GPU is served on the CPU where there is none, and that is said once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from structlog.testing import capture_logs
from support.onnx_models import add_sub
from support.repositories import ADD_SUB_CONFIG, add_model
from support.servers import address, server
from support.triton import infer_inputs
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from naiad.runtime.ort_environment import OrtEnvironment
from naiad.runtime.providers import CPU, CUDA, TENSORRT

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path

    from naiad.app import NaiadServer

TWO_INSTANCES = "instance_group [ { count: 2 } ]\n"
ACCELERATOR = 'optimization {{ execution_accelerators {{ gpu_execution_accelerator {{ name: "{}" }} }} }}'


@pytest.fixture(autouse=True)
def without_gpu() -> None:
    """Skip where the GPU that the configs ask for is there: `tests/gpu` covers that."""
    environment = OrtEnvironment.detect()
    if CUDA in environment.available and environment.gpu_count:
        pytest.skip("there is a GPU")


def warnings_of(log: list[MutableMapping[str, Any]]) -> list[str]:
    """The sentences of the warnings about execution providers."""
    return [line["detail"] for line in log if line["event"] == "execution provider not used"]


async def adds(running: NaiadServer) -> bool:
    """Whether the model `simple` answers, and rightly."""
    operands = {"INPUT0": np.arange(16, dtype=np.int32)[np.newaxis], "INPUT1": np.ones((1, 16), np.int32)}
    async with triton.InferenceServerClient(address(running)) as client:
        result = await client.infer("simple", infer_inputs(**operands))
    return bool((result.as_numpy("OUTPUT0") == operands["INPUT0"] + 1).all())


async def told(running: NaiadServer) -> list[tuple[str, str]]:
    """What ModelMetadata's trailing metadata says about execution providers."""
    async with grpc.aio.insecure_channel(address(running)) as channel:
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelMetadata(
            pb.ModelMetadataRequest(name="simple")
        )
        await call
        return [(key, str(value)) for key, value in await call.trailing_metadata()]


async def test_a_model_for_a_gpu_runs_on_the_cpu_with_one_warning(tmp_path: Path) -> None:
    """Two instances, one warning: it names the provider, the model, what to do and who can do it."""
    add_model(tmp_path, "simple", add_sub(), ADD_SUB_CONFIG + TWO_INSTANCES + ACCELERATOR.format("cuda"))
    with capture_logs() as log:
        async with server(tmp_path) as running:
            assert await adds(running)
            said = await told(running)
    [sentence] = warnings_of(log)
    assert sentence.startswith(f"{CUDA} is not used by 'simple': ")
    [line] = [line for line in log if line["log_level"] == "warning"]
    assert (line["model"], line["who"]) == ("simple/1", "operator")
    assert said == [("naiad-execution-providers", CPU), ("naiad-fallback", sentence)]


async def test_the_providers_of_an_accelerated_model_are_named_in_one_warning(tmp_path: Path) -> None:
    add_model(tmp_path, "simple", add_sub(), ADD_SUB_CONFIG + TWO_INSTANCES + ACCELERATOR.format("tensorrt"))
    with capture_logs() as log:
        async with server(tmp_path) as running:
            assert await adds(running)
            [serving] = running.manager.ready_versions("simple")
            assert serving.execution_providers == (CPU,)
    [sentence] = warnings_of(log)
    assert sentence.startswith(f"{TENSORRT} and {CUDA} are not used by 'simple': ")


async def test_a_repository_for_gpus_serves_on_the_cpu_with_one_line_a_model(
    tmp_path: Path,
) -> None:
    """Whatever else the configs say for a GPU: each line names the model, the providers and who has to act."""
    for_cuda = (
        'parameters { key: "naiad.batch_buckets" value { string_value: "1,8" } }\n'
        'parameters { key: "naiad.gpu_lanes" value { string_value: "2" } }\n'
        'parameters { key: "naiad.cuda_graphs" value { string_value: "on" } }\n'
    )
    add_model(tmp_path, "simple", add_sub(), ADD_SUB_CONFIG + ACCELERATOR.format("cuda"))
    add_model(tmp_path, "tuned", add_sub(), ADD_SUB_CONFIG + for_cuda + ACCELERATOR.format("cuda"))
    add_model(tmp_path, "engine", add_sub(), ADD_SUB_CONFIG + TWO_INSTANCES + ACCELERATOR.format("tensorrt"))
    add_model(tmp_path, "plain", add_sub(), ADD_SUB_CONFIG)
    with capture_logs() as log:
        async with server(tmp_path) as running:
            assert await adds(running)
            served = {each: running.manager.ready_versions(each)[0] for each in running.manager.model_names()}
    assert {name: each.execution_providers for name, each in served.items()} == dict.fromkeys(
        ("engine", "plain", "simple", "tuned"), (CPU,)
    )
    warned = [line for line in log if line["log_level"] == "warning"]
    assert {line["who"] for line in warned} == {"operator"}
    told = sorted((line["model"], line["detail"].partition(" not used by ")[0]) for line in warned)
    assert told == [
        ("engine/1", f"{TENSORRT} and {CUDA} are"),
        ("simple/1", f"{CUDA} is"),
        ("tuned/1", f"{CUDA} is"),
    ]
    notes = [
        line["detail"] for line in log if line["event"] == "model prepared" and line["model"] == "tuned/1"
    ]
    assert [note.split("'")[1] for note in notes if "no instance runs on a GPU" in note] == [
        "naiad.batch_buckets",
        "naiad.gpu_lanes",
        "naiad.cuda_graphs",
    ]


async def test_a_gpu_parameter_that_is_wrong_is_refused_without_a_gpu_too(tmp_path: Path) -> None:
    """Else it would come to light on the first machine that has one."""
    wrong = 'parameters { key: "naiad.batch_buckets" value { string_value: "1,4" } }\n'
    add_model(tmp_path, "simple", add_sub(), ADD_SUB_CONFIG + wrong)
    async with server(tmp_path, exit_on_error=False, strict_readiness=False) as running:
        [entry] = running.manager.models()
        assert "parameter 'naiad.batch_buckets' is '1,4', expected max_batch_size, which is 8" in str(
            entry.versions[1].reason
        )


async def test_a_model_that_asks_for_nothing_gives_no_warning(tmp_path: Path) -> None:
    add_model(tmp_path, "simple", add_sub(), ADD_SUB_CONFIG)
    with capture_logs() as log:
        async with server(tmp_path) as running:
            assert await told(running) == [("naiad-execution-providers", CPU)]
    assert [line for line in log if line["log_level"] == "warning"] == []
