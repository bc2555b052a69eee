"""A whole server over HTTP, judged by stock tritonclient: the protocol behind the front end is the real one."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.grpc.aio as triton_grpc
import tritonclient.http.aio as triton
from google.protobuf import json_format
from onnx import TensorProto
from support.http import ask
from support.onnx_models import add_sub, identity
from support.repositories import ADD_SUB_CONFIG, add_model
from support.servers import address, http_address, server
from support.triton import infer_inputs
from tritonclient.utils import InferenceServerException

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from naiad.app import NaiadServer


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[NaiadServer]:
    """`simple` adds and subtracts; `echo` gives 32-bit floats back, `words` texts."""
    add_model(tmp_path, "simple", add_sub(), ADD_SUB_CONFIG)
    add_model(tmp_path, "echo", identity(TensorProto.FLOAT, ["batch", "size"]), "max_batch_size: 8")
    add_model(tmp_path, "words", identity(TensorProto.STRING, ["batch", "size"]), "max_batch_size: 8")
    async with server(tmp_path, http_max_input_size=2**20) as started:
        yield started


@pytest.fixture
async def client(running: NaiadServer) -> AsyncIterator[triton.InferenceServerClient]:
    async with triton.InferenceServerClient(http_address(running)) as connected:
        yield connected


def inputs(arrays: dict[str, Any], *, binary: bool = True) -> list[triton.InferInput]:
    found = []
    for name, array in arrays.items():
        datatype = {"i": "INT32", "f": "FP32", "O": "BYTES"}[array.dtype.kind]
        found.append(triton.InferInput(name, list(array.shape), datatype))
        found[-1].set_data_from_numpy(array, binary_data=binary)
    return found


def operands() -> dict[str, np.ndarray]:
    return {
        "INPUT0": np.arange(16, dtype=np.int32).reshape(1, 16),
        "INPUT1": np.full((1, 16), 3, dtype=np.int32),
    }


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("encoding", [None, "gzip", "deflate"])
async def test_it_adds_and_subtracts_in_every_encoding(
    client: triton.InferenceServerClient, binary: bool, encoding: str | None
) -> None:
    result = await client.infer(
        "simple",
        inputs(operands(), binary=binary),
        outputs=[triton.InferRequestedOutput(f"OUTPUT{n}", binary_data=binary) for n in (0, 1)],
        request_id="7",
        request_compression_algorithm=encoding,
        response_compression_algorithm=encoding,
    )
    assert np.array_equal(result.as_numpy("OUTPUT0"), [np.arange(16) + 3])
    assert np.array_equal(result.as_numpy("OUTPUT1"), [np.arange(16) - 3])
    assert result.get_response()["id"] == "7"


@pytest.mark.parametrize("binary", [True, False])
async def test_tensors_of_every_length_come_back_as_they_went(
    client: triton.InferenceServerClient, binary: bool
) -> None:
    """Long JSON is parsed and printed in threads and in pieces; long binary tensors are sent in pieces."""
    for size in (1, 1_000, 100_000 if binary else 20_000):
        values = np.random.default_rng(size).standard_normal((2, size)).astype(np.float32)
        wanted = [triton.InferRequestedOutput("OUTPUT0", binary_data=binary)]
        result = await client.infer("echo", inputs({"INPUT0": values}, binary=binary), outputs=wanted)
        assert np.array_equal(result.as_numpy("OUTPUT0"), values)


@pytest.mark.parametrize("binary", [True, False])
async def test_texts_come_back_as_they_went(client: triton.InferenceServerClient, binary: bool) -> None:
    words = np.array([["é".encode(), b""], [b'"\n', b"x" * 1_000]], dtype=np.object_)
    wanted = [triton.InferRequestedOutput("OUTPUT0", binary_data=binary)]
    result = await client.infer("words", inputs({"INPUT0": words}, binary=binary), outputs=wanted)
    texts = result.as_numpy("OUTPUT0").tolist()
    assert [[text if binary else text.encode() for text in row] for row in texts] == words.tolist()


async def test_classes_are_texts(client: triton.InferenceServerClient) -> None:
    values = np.array([[0.5, 2.0, 1.0]], dtype=np.float32)
    wanted = [triton.InferRequestedOutput("OUTPUT0", class_count=2)]
    result = await client.infer("echo", inputs({"INPUT0": values}), outputs=wanted)
    assert result.as_numpy("OUTPUT0").tolist() == [[b"2.000000:1", b"1.000000:2"]]


async def test_both_front_ends_say_the_same(
    running: NaiadServer, client: triton.InferenceServerClient
) -> None:
    """Metadata, config, statistics and the words of a refusal."""
    async with triton_grpc.InferenceServerClient(address(running)) as other:
        for method, arguments in {
            "get_server_metadata": (),
            "get_model_metadata": ("simple",),
            "get_inference_statistics": ("simple",),
        }.items():
            by_http = await getattr(client, method)(*arguments)
            by_grpc = json_format.MessageToDict(
                await getattr(other, method)(*arguments),
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
            assert by_http == numbered(by_grpc)
        config = await client.get_model_config("simple")
        assert config["max_batch_size"] == 8
        assert config["input"][0]["dims"] == [16]
        wrong = operands() | {"INPUT1": np.zeros((1, 17), dtype=np.int32)}
        with pytest.raises(InferenceServerException) as refused:
            await client.infer("simple", inputs(wrong))
        with pytest.raises(InferenceServerException) as refused_too:
            await other.infer("simple", infer_inputs(**wrong))
        assert refused.value.message() == refused_too.value.message()
        assert refused.value.status() == "400"


def numbered(value: Any) -> Any:
    """What protobuf prints, its 64-bit integers taken out of their quotes; versions stay texts."""
    if isinstance(value, dict):
        return {
            key: each if key in ("version", "versions") else numbered(each) for key, each in value.items()
        }
    if isinstance(value, list):
        return list(map(numbered, value))
    return int(value) if isinstance(value, str) and value.lstrip("-").isdigit() else value


async def test_a_raw_body_is_the_only_input(running: NaiadServer) -> None:
    values = np.arange(8, dtype=np.float32)
    headers = {"Inference-Header-Content-Length": "0"}
    found = await ask(running.http_port, "POST", "/v2/models/echo/infer", values.tobytes(), headers)
    length = int(found.headers["inference-header-content-length"])
    assert json.loads(found.body[:length])["outputs"][0]["shape"] == [1, 8]
    assert found.body[length:] == values.tobytes()


async def test_what_the_model_refuses_has_the_status_that_fits(running: NaiadServer) -> None:
    tensor = {"name": "INPUT0", "datatype": "FP32", "shape": [1, 1], "data": [1]}
    for body, text in (
        ({"inputs": [tensor, tensor]}, "input 'INPUT0' already exists in request"),
        (
            {"inputs": [tensor], "outputs": [{"name": "OUTPUT0"}] * 2},
            "output 'OUTPUT0' already exists in request",
        ),
        (
            {"inputs": [tensor], "outputs": [{"name": "X"}]},
            "unexpected inference output 'X' for model 'echo'",
        ),
        ({"inputs": []}, "expected 1 inputs but got 0 inputs for model 'echo'"),
        (
            {"inputs": [tensor | {"datatype": "INT32"}]},
            "data-type is 'INT32', but model 'echo' expects 'FP32'",
        ),
    ):
        found = await ask(running.http_port, "POST", "/v2/models/echo/infer", json.dumps(body).encode())
        assert found.status == 400
        assert text in found.error


async def test_many_callers_at_once_are_each_answered_their_own(client: triton.InferenceServerClient) -> None:
    async def one(number: int) -> None:
        values = np.full((1, 50), number, dtype=np.float32)
        result = await client.infer("echo", inputs({"INPUT0": values}))
        assert np.array_equal(result.as_numpy("OUTPUT0"), values)

    await asyncio.gather(*map(one, range(64)))


async def test_the_server_drains_both_front_ends(tmp_path: Path) -> None:
    add_model(tmp_path, "simple", add_sub(), ADD_SUB_CONFIG)
    async with server(tmp_path) as started:
        assert (await ask(started.http_port, "GET", "/v2/health/ready")).status == 200
        port = started.http_port
    assert started.drained
    with pytest.raises(ConnectionRefusedError):
        await ask(port, "GET", "/v2/health/live")
