"""A whole server on a real port, judged by stock tritonclient."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from onnx import TensorProto, helper
from support.onnx_models import add_sub, identity, info, model
from support.repositories import ADD_SUB_CONFIG, add_model
from support.servers import address, server
from support.triton import infer_input, infer_inputs
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from naiad.app import NaiadServer

BATCHED_CONFIG = ADD_SUB_CONFIG + "dynamic_batching { max_queue_delay_microseconds: 10000 }"


def operands(value: int = 3) -> dict[str, np.ndarray]:
    return {
        "INPUT0": np.arange(16, dtype=np.int32).reshape(1, 16),
        "INPUT1": np.full((1, 16), value, dtype=np.int32),
    }


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[NaiadServer]:
    """Three models: `simple`, `versions` (1 adds, 2 also, both loaded), and `lookup`, which values can break."""
    add_model(tmp_path, "simple", add_sub(), BATCHED_CONFIG)
    add_model(
        tmp_path, "versions", {1: add_sub(), 2: add_sub()}, ADD_SUB_CONFIG + "version_policy { all {} }"
    )
    add_model(tmp_path, "lookup", lookup_model(), "dynamic_batching { max_queue_delay_microseconds: 20000 }")
    async with server(tmp_path) as started:
        yield started


@pytest.fixture
async def client(running: NaiadServer) -> AsyncIterator[triton.InferenceServerClient]:
    async with triton.InferenceServerClient(address(running)) as connected:
        yield connected


def lookup_model() -> Any:
    """OUTPUT = TABLE[INDEX]: an index beyond the table fails the run, which no shape check can see."""
    table = helper.make_tensor("TABLE", TensorProto.FLOAT, [4], [10.0, 11.0, 12.0, 13.0])
    return model(
        [helper.make_node("Gather", ["TABLE", "INDEX"], ["OUTPUT"])],
        [info("INDEX", TensorProto.INT64, ["N", 1])],
        [info("OUTPUT", TensorProto.FLOAT, ["N", 1])],
        [table],
    )


async def test_a_stock_client_infers_with_a_version_and_without(client: triton.InferenceServerClient) -> None:
    for version, answered in (("", "2"), ("1", "1"), ("2", "2")):
        result = await client.infer(
            "versions", infer_inputs(**operands()), model_version=version, request_id="r"
        )
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), operands()["INPUT0"] + 3)
        np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), operands()["INPUT0"] - 3)
        assert result.get_response().model_version == answered
        assert result.get_response().id == "r"


ELEM_TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
    "BF16": TensorProto.BFLOAT16,
}


async def test_every_datatype_goes_through_unchanged(tmp_path: Path) -> None:
    """Identity models without a config.pbtxt, so the config is read off the graph too."""
    for name, elem_type in ELEM_TYPES.items():
        add_model(tmp_path, f"identity_{name}", identity(elem_type, ["N", 3]))
    async with server(tmp_path) as running, triton.InferenceServerClient(address(running)) as client:
        for name in ELEM_TYPES:
            datatype = DataType(name)
            if name == "BYTES":
                sent = np.array([[b"", b"text", "näiad".encode()]], dtype=np.object_)
            elif name == "BF16":
                sent = np.array([[0.0, 1.5, -2.0]], dtype=ml_dtypes.bfloat16)
            else:
                sent = np.array([[0, 1, 7]]).astype(datatype.numpy)
            result = await client.infer(f"identity_{name}", [infer_input("INPUT0", sent, name)])
            assert result.get_output("OUTPUT0").datatype == name
            np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), sent, err_msg=name)


async def test_typed_contents_are_taken_as_well_as_raw(running: NaiadServer) -> None:
    request = service_pb2.ModelInferRequest(model_name="simple")
    for name in ("INPUT0", "INPUT1"):
        tensor = request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
        tensor.contents.int_contents.extend(range(16))
    async with grpc.aio.insecure_channel(address(running)) as channel:
        answer = await service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request)
    np.testing.assert_array_equal(
        np.frombuffer(answer.raw_output_contents[0], np.int32), np.arange(16, dtype=np.int32) * 2
    )


@pytest.mark.parametrize(
    ("name", "version", "status", "message"),
    [
        ("nope", "", "NOT_FOUND", "Request for unknown model: 'nope' is not found"),
        ("simple", "9", "NOT_FOUND", "Request for unknown model: 'simple' version 9 is not found"),
        ("simple", "x", "INVALID_ARGUMENT", "failed to get model version from specified version string 'x'"),
        ("lookup", "", "INVALID_ARGUMENT", "unexpected inference input 'INPUT0' for model 'lookup'"),
    ],
)
async def test_faults_come_with_tritons_code_and_words(
    client: triton.InferenceServerClient, name: str, version: str, status: str, message: str
) -> None:
    inputs = infer_inputs(**operands())[:1] if name == "lookup" else infer_inputs(**operands())
    with pytest.raises(InferenceServerException) as raised:
        await client.infer(name, inputs, model_version=version)
    assert raised.value.status() == f"StatusCode.{status}"
    assert message in raised.value.message()


async def test_32_clients_share_batches_and_nobody_gets_anothers_answer(
    running: NaiadServer, client: triton.InferenceServerClient
) -> None:
    """Each request carries its own number; the statistics say how many shared a batch on average."""
    requests_each = 30

    async def one_client(number: int) -> None:
        async with triton.InferenceServerClient(address(running)) as own:
            for turn in range(requests_each):
                value = number * 1_000 + turn
                result = await own.infer("simple", infer_inputs(**operands(value)))
                np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), operands()["INPUT0"] + value)

    await asyncio.gather(*(one_client(number) for number in range(32)))
    [statistics] = (await client.get_inference_statistics("simple")).model_stats
    assert statistics.inference_count == 32 * requests_each
    assert statistics.inference_stats.success.count == 32 * requests_each
    assert statistics.inference_stats.fail.count == 0
    average = statistics.inference_count / statistics.execution_count
    assert average > 4
    assert (
        sum(row.batch_size * row.compute_infer.count for row in statistics.batch_stats) == 32 * requests_each
    )


async def test_a_bad_value_inside_a_batch_fails_alone(client: triton.InferenceServerClient) -> None:
    """The delay gathers all of them into one batch; one index is beyond the table."""
    indices = [0, 99, 2]
    calls = [client.infer("lookup", infer_inputs(INDEX=np.array([[index]], np.int64))) for index in indices]
    answers: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    first, bad, third = answers
    assert first.as_numpy("OUTPUT").tolist() == [[10.0]]
    assert third.as_numpy("OUTPUT").tolist() == [[12.0]]
    assert isinstance(bad, InferenceServerException)
    assert "99" in str(bad)


async def test_a_stream_answers_in_order_and_faults_stay_in_the_stream(
    client: triton.InferenceServerClient,
) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number, name in enumerate(["simple", "nope", "versions", "simple"]):
            yield {"model_name": name, "inputs": infer_inputs(**operands(number)), "request_id": str(number)}

    answers = [pair async for pair in client.stream_infer(requests())]
    assert [error is None for _, error in answers] == [True, False, True, True]
    assert "Request for unknown model: 'nope' is not found" in str(answers[1][1])
    for number in (0, 2, 3):
        result = answers[number][0]
        assert result.get_response().id == str(number)
        assert result.get_response().parameters["triton_final_response"].bool_param
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), operands()["INPUT0"] + number)


async def test_metadata_config_index_and_readiness_are_told(client: triton.InferenceServerClient) -> None:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("versions", "1")
    assert not await client.is_model_ready("versions", "7")
    assert not await client.is_model_ready("nope")
    metadata = await client.get_model_metadata("versions")
    assert (metadata.platform, list(metadata.versions)) == ("onnxruntime_onnx", ["1", "2"])
    assert list(metadata.inputs[0].shape) == [-1, 16]
    config = (await client.get_model_config("simple")).config
    assert config.max_batch_size == 8
    assert config.instance_group[0].count >= 1
    assert not config.parameters, "what was asked for is used, and nothing is added"
    index = await client.get_model_repository_index()
    assert [(entry.name, entry.version, entry.state) for entry in index.models] == [
        ("lookup", "1", "READY"),
        ("simple", "1", "READY"),
        ("versions", "1", "READY"),
        ("versions", "2", "READY"),
    ]
    assert (await client.get_server_metadata()).name == "triton"


async def test_the_execution_provider_travels_with_the_metadata(running: NaiadServer) -> None:
    async with grpc.aio.insecure_channel(address(running)) as channel:
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelMetadata(
            service_pb2.ModelMetadataRequest(name="simple")
        )
        await call
        trailing = dict(await call.trailing_metadata())
    assert trailing["naiad-execution-providers"] == "CPUExecutionProvider"


async def test_loading_by_rpc_is_refused_as_triton_refuses_it(client: triton.InferenceServerClient) -> None:
    for call in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="explicit model load / unload is not allowed"):
            await call("simple")


async def test_health_can_be_checked_and_watched_per_model_and_ends_when_the_server_drains(
    tmp_path: Path,
) -> None:
    add_model(tmp_path, "simple", add_sub(), ADD_SUB_CONFIG)
    add_model(tmp_path, "broken", b"not a model", ADD_SUB_CONFIG)
    serving, not_serving = (
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
    )
    running = server(tmp_path, exit_on_error=False)
    async with running, grpc.aio.insecure_channel(address(running)) as channel:
        health = health_pb2_grpc.HealthStub(channel)

        async def check(service: str) -> int:
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            return int(answer.status)

        # One model failed, and readiness is strict: the server as a whole is not ready.
        assert await check("") == not_serving
        assert await check("simple") == serving
        assert await check("broken") == not_serving
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await check("nope")
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
        watch = health.Watch(health_pb2.HealthCheckRequest(service="simple"))
        assert (await watch.read()).status == serving
        stopping = asyncio.create_task(running.__aexit__(None, None, None))
        assert (await watch.read()).status == not_serving
        await asyncio.wait_for(stopping, 20)


async def test_reflection_lists_the_services(running: NaiadServer) -> None:
    def listed() -> set[str]:
        with grpc.insecure_channel(address(running)) as channel:
            return set(ProtoReflectionDescriptorDatabase(channel).get_services())

    assert {
        "inference.GRPCInferenceService",
        "naiad.vision.v1.VisionService",
        "grpc.health.v1.Health",
    } <= await asyncio.to_thread(listed)


async def test_a_broken_model_is_named_and_the_others_serve(tmp_path: Path) -> None:
    add_model(tmp_path, "good", add_sub(), ADD_SUB_CONFIG)
    add_model(tmp_path, "cut", add_sub().SerializeToString()[:-40], ADD_SUB_CONFIG)
    add_model(tmp_path, "typo", add_sub(), ADD_SUB_CONFIG + "no_such_field: 1")
    with pytest.raises(InvalidArgumentError, match="not every model could be loaded"):
        async with server(tmp_path):
            pass
    async with (
        server(tmp_path, exit_on_error=False, strict_readiness=False) as running,
        triton.InferenceServerClient(address(running)) as client,
    ):
        assert await client.is_server_ready()
        result = await client.infer("good", infer_inputs(**operands()))
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), operands()["INPUT0"] + 3)
        index = {entry.name: entry for entry in (await client.get_model_repository_index()).models}
        assert index["cut"].state == "UNAVAILABLE"
        assert "model.onnx" in index["cut"].reason
        with pytest.raises(InferenceServerException, match="'cut' has no available versions"):
            await client.infer("cut", infer_inputs(**operands()))
        with pytest.raises(InferenceServerException, match="'typo' is not found"):
            await client.infer("typo", infer_inputs(**operands()))


async def test_a_taken_port_is_an_error_that_names_the_flag(running: NaiadServer, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="--grpc-port"):
        async with server(tmp_path, grpc_port=running.grpc_port):
            pass


async def test_an_answer_over_the_limit_fails_alone_also_within_a_stream(tmp_path: Path) -> None:
    add_model(tmp_path, "identity", identity(TensorProto.FLOAT, ["N", "M"]))
    async with (
        server(tmp_path, grpc_max_message_bytes=10_000) as running,
        triton.InferenceServerClient(address(running)) as client,
    ):

        async def requests() -> AsyncIterator[dict[str, Any]]:
            # The name of the output makes the answer a little larger than its request.
            for width in (4, 2_480, 4):
                array = np.ones((1, width), np.float32)
                yield {"model_name": "identity", "inputs": infer_inputs(INPUT0=array), "model_version": "1"}

        answers = [pair async for pair in client.stream_infer(requests())]
        assert [error is None for _, error in answers] == [True, False, True]
        assert "exceeds gRPC's byte size limit 10000" in str(answers[1][1])


async def test_a_model_with_a_name_beyond_ascii_tells_its_fallback_too(tmp_path: Path) -> None:
    accelerator = 'execution_accelerators { gpu_execution_accelerator { name: "cuda" } }'
    add_model(tmp_path, "modèle", add_sub(), f"{ADD_SUB_CONFIG} optimization {{ {accelerator} }}")
    async with server(tmp_path) as running, grpc.aio.insecure_channel(address(running)) as channel:
        call = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelMetadata(
            service_pb2.ModelMetadataRequest(name="modèle")
        )
        assert (await call).name == "modèle"
        trailing = await call.trailing_metadata()
    assert any(key == "naiad-fallback" and "CUDA" in str(value) for key, value in trailing)


async def test_a_name_as_long_as_a_book_comes_back_cut(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException) as raised:
        await client.infer("x" * 20_000, infer_inputs(**operands()))
    assert raised.value.status() == "StatusCode.NOT_FOUND"
    assert len(raised.value.message()) < 3_000


async def test_many_long_texts_do_not_hold_up_other_callers(tmp_path: Path) -> None:
    """A large BYTES tensor is converted off the loop and comes back the same."""
    add_model(tmp_path, "texts", identity(TensorProto.STRING, ["N", "M"]))
    texts = np.array([[f"text {number}".encode() for number in range(20_000)]], dtype=np.object_)
    async with server(tmp_path) as running, triton.InferenceServerClient(address(running)) as client:
        result = await client.infer("texts", [infer_input("INPUT0", texts, "BYTES")])
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), texts)


async def test_an_empty_repository_is_served_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with server(tmp_path):
        pass
    assert "no model to serve" in capsys.readouterr().out
