"""Triton's client examples that speak gRPC closer to the wire: channel options, and messages without a client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from support.stock_clients import connect, operands
from tritonclient.grpc import KeepAliveOptions, service_pb2, service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.stock_clients import Endpoints

KINDS = pytest.mark.parametrize("kind", ["grpc", "grpc.aio"])


@pytest.fixture
def stub(example_server: Endpoints) -> Iterator[Any]:
    """Triton's service without a client before it."""
    with grpc.insecure_channel(example_server.grpc) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


@KINDS
async def test_keepalive_options(kind: str, example_server: Endpoints) -> None:
    options = KeepAliveOptions(
        keepalive_time_ms=2**31 - 1,
        keepalive_timeout_ms=20_000,
        keepalive_permit_without_calls=False,
        http2_max_pings_without_data=2,
    )
    async with connect(kind, example_server, keepalive_options=options) as client:
        result = await client.infer("simple", operands())
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), operands()["INPUT0"] + 1)


@KINDS
async def test_channel_arguments_of_the_caller_s_own(kind: str, example_server: Endpoints) -> None:
    """They reach the channel: one that takes no answer of 100 bytes refuses it; another name goes out with it."""
    arguments = [("grpc.lb_policy_name", "pick_first"), ("grpc.primary_user_agent", "an example")]
    async with connect(kind, example_server, channel_args=arguments) as client:
        result = await client.infer("simple", operands())
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), operands()["INPUT0"] + 1)
    narrow = [("grpc.max_receive_message_length", 100)]
    async with connect(kind, example_server, channel_args=narrow) as client:
        assert await client.call("is_server_live")
        with pytest.raises(Exception, match="larger than max"):
            await client.infer("simple", operands())


@KINDS
async def test_no_channel_arguments_at_all(kind: str, example_server: Endpoints) -> None:
    async with connect(kind, example_server, channel_args=[]) as client:
        result = await client.infer("simple", operands())
        np.testing.assert_array_equal(result.as_numpy("OUTPUT1"), operands()["INPUT0"] - 1)


def request(model: str, datatype: str, **contents: Any) -> service_pb2.ModelInferRequest:
    """INPUT0 and INPUT1 `[1, 16]` of `model`, both with these typed contents."""
    message = service_pb2.ModelInferRequest(model_name=model)
    for name in ("INPUT0", "INPUT1"):
        tensor = message.inputs.add(name=name, datatype=datatype, shape=[1, 16])
        if contents:
            tensor.contents.CopyFrom(service_pb2.InferTensorContents(**contents))
    return message


def outputs(response: Any, datatype: Any) -> list[list[int]]:
    return [np.frombuffer(raw, datatype).tolist() for raw in response.raw_output_contents]


@pytest.mark.parametrize(("model", "datatype"), [("simple", "INT32"), ("simple_int8", "INT8")])
def test_typed_contents_of_integers(stub: Any, model: str, datatype: str) -> None:
    response = stub.ModelInfer(request(model, datatype, int_contents=range(16)))
    assert [output.name for output in response.outputs] == ["OUTPUT0", "OUTPUT1"]
    assert not any(output.HasField("contents") for output in response.outputs)
    assert outputs(response, datatype.lower()) == [[2 * value for value in range(16)], [0] * 16]


def test_typed_contents_of_strings(stub: Any) -> None:
    texts = [str(value).encode() for value in range(16)]
    response = stub.ModelInfer(request("simple_string", "BYTES", bytes_contents=texts))
    doubled = [str(2 * value).encode() for value in range(16)]
    expected = b"".join(len(text).to_bytes(4, "little") + text for text in doubled)
    assert response.raw_output_contents[0] == expected


def test_typed_contents_do_not_mix_with_raw_ones(stub: Any) -> None:
    mixed = request("simple", "INT32", int_contents=range(16))
    mixed.inputs[0].ClearField("contents")
    mixed.raw_input_contents.append(bytes(64))
    with pytest.raises(grpc.RpcError) as raised:
        stub.ModelInfer(mixed)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert raised.value.details() == (
        "contents field must not be specified when using raw_input_contents for 'INPUT1' for model 'simple'"
    )


def test_a_version_that_is_no_number(stub: Any) -> None:
    wrong = request("simple_int8", "INT8", int_contents=range(16))
    wrong.model_version = "wrong_specification"
    with pytest.raises(grpc.RpcError) as raised:
        stub.ModelInfer(wrong)
    expected = "failed to get model version from specified version string 'wrong_specification'"
    assert expected in (raised.value.details() or "")


def test_a_generated_client_asks_for_everything_and_infers(stub: Any) -> None:
    """As programs do that have only the protos: every metadata call, then a picture of zeros."""
    assert stub.ServerLive(service_pb2.ServerLiveRequest()).live
    assert stub.ServerReady(service_pb2.ServerReadyRequest()).ready
    assert stub.ModelReady(service_pb2.ModelReadyRequest(name="densenet_onnx")).ready
    metadata = stub.ModelMetadata(service_pb2.ModelMetadataRequest(name="densenet_onnx"))
    assert [list(tensor.shape) for tensor in metadata.inputs] == [[3, 224, 224]]
    config = stub.ModelConfig(service_pb2.ModelConfigRequest(name="densenet_onnx")).config
    assert config.output[0].label_filename == "labels.txt"
    message = service_pb2.ModelInferRequest(model_name="densenet_onnx", id="my request id")
    message.inputs.add(name="data_0", datatype="FP32", shape=[3, 224, 224])
    message.outputs.add(name="fc6_1")
    message.raw_input_contents.append(bytes(4 * 3 * 224 * 224))
    response = stub.ModelInfer(message)
    assert response.id == "my request id"
    assert list(response.outputs[0].shape) == [1000]
    assert len(response.raw_output_contents[0]) == 4000
