"""One test for each way in which inference servers have been attacked, over real sockets and both front ends."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from fuzz.models import good_request
from fuzz.strategies import MANY
from fuzz.wire import PATIENCE_S
from support.http import ask
from support.servers import address
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fuzz.conftest import Target

pytestmark = pytest.mark.asyncio(loop_scope="package")

HOSTILE_NAMES = [
    "..",
    "../simple",
    "/etc/passwd",
    "a/b",
    " ..",
    "..\\simple",
    ".",
    "simple/../simple",
    "..\0",
]
MIB = 2**20


async def refusal(target: Target, method: str, request: Any) -> tuple[grpc.StatusCode, str] | Any:
    """Status and text of a refused RPC, or its response."""
    async with grpc.aio.insecure_channel(address(target.server)) as channel:
        try:
            return await getattr(service_pb2_grpc.GRPCInferenceServiceStub(channel), method)(
                request, timeout=PATIENCE_S
            )
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""


def with_shape(shape: list[int], datatype: str = "FP32") -> pb.ModelInferRequest:
    """A request without any data for a shape that would need much."""
    model = {"FP32": "matrix", "BYTES": "text"}[datatype]
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=[b""])
    request.inputs.add(name="INPUT0", datatype=datatype, shape=shape)
    return request


# Sizes that overflow


@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
@pytest.mark.parametrize(
    "shape",
    [
        [2**32, 2**32],  # 2**64 elements, which wrap to none
        [2**32, 2**31],  # 2**63
        [2**61, 2],  # 2**62 elements, of 2**64 bytes
        [2**62, 4],
        [8, 2**60],
        [2**63 - 1, 2**63 - 1],
        [-1, -1],
        [-(2**63), 2],
    ],
)
async def test_a_shape_that_overflows_is_refused(burst: Target, shape: list[int], datatype: str) -> None:
    """With no data at all: a product that wrapped to zero would pass for a complete tensor."""
    for request in (with_shape(shape, datatype), with_shape([1, *shape], datatype)):
        code, _ = await refusal(burst, "ModelInfer", request)
        assert code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("shape", [[2**32, 2**32], [2**61, 2], [2**63, 1], [2**64 - 1, 1]])
async def test_a_json_shape_that_overflows_is_refused(burst: Target, shape: list[int]) -> None:
    tensor = {"name": "INPUT0", "datatype": "FP32", "shape": shape}
    sources: tuple[dict[str, object], ...] = ({"data": []}, {"parameters": {"binary_data_size": 0}})
    for source in sources:
        body = json.dumps({"inputs": [tensor | source]}).encode()
        headers = {"Inference-Header-Content-Length": str(len(body))}
        answer = await ask(burst.server.http_port, "POST", "/v2/models/matrix/infer", body, headers)
        assert answer.status == 400, answer.body


@pytest.mark.parametrize("batch", [9, 2**31, 2**62, 2**63 - 1])
async def test_a_huge_batch_is_refused_by_its_number(burst: Target, batch: int) -> None:
    request = good_request()
    for tensor in request.inputs:
        tensor.shape[0] = batch
    code, text = await refusal(burst, "ModelInfer", request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text == "[request id: 7] inference request batch-size must be <= 8 for 'simple'"


# Lists that are too long


async def test_a_hundred_thousand_times_the_same_output_is_refused_over_grpc(burst: Target) -> None:
    request = good_request()
    for _ in range(MANY):
        request.outputs.add(name="OUTPUT0")
    code, text = await refusal(burst, "ModelInfer", request)
    assert (code, text) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "[request id: 7] output 'OUTPUT0' already exists in request",
    )


async def test_a_hundred_thousand_times_the_same_output_is_refused_over_http(burst: Target) -> None:
    tensors = [
        {"name": name, "datatype": "INT32", "shape": [1, 16], "data": [0] * 16}
        for name in ("INPUT0", "INPUT1")
    ]
    body = json.dumps({"inputs": tensors, "outputs": [{"name": "OUTPUT0"}] * MANY}).encode()
    answer = await ask(burst.server.http_port, "POST", "/v2/models/simple/infer", body)
    assert (answer.status, answer.error) == (
        400,
        "[request id: <id_unknown>] output 'OUTPUT0' already exists in request",
    )


async def test_a_hundred_thousand_inputs_are_refused_in_a_short_text(burst: Target) -> None:
    """The text names what was sent, and a text without end would not fit gRPC's trailers."""
    request = good_request()
    for index in range(MANY):
        request.inputs.add(name=f"é{index}", datatype="INT32", shape=[1, 16])
        request.raw_input_contents.append(b"")
    code, text = await refusal(burst, "ModelInfer", request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "expected 2 inputs but got 100002 inputs" in text


async def test_a_name_as_long_as_a_book_in_any_script_comes_back_cut(burst: Target) -> None:
    """GRPC's trailers grow threefold by what is not ASCII, and a client drops a call whose trailers are too long."""
    request = pb.ModelMetadataRequest(name="\U0001f600" * 100_000)
    code, text = await refusal(burst, "ModelMetadata", request)
    assert code is grpc.StatusCode.NOT_FOUND
    assert text.endswith(" …")


# Bodies that grow


def bomb() -> bytes:
    """A megabyte of gzip that inflates to a gigabyte."""
    block = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = block.compress(bytes(MIB)) + block.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + zeros * 1_024 + b"\x03\0" + struct.pack("<II", 0, 2**30)


def rss_bytes() -> int:
    """This process's memory, which is the server's too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1_024 for line in lines if line.startswith("VmRSS"))


async def test_a_gigabyte_in_a_megabyte_is_refused_and_leaves_no_memory_behind(burst: Target) -> None:
    """Inflating stops at the limit of 64 MiB, in every endpoint that takes a body."""
    packed = bomb()
    assert len(packed) < 2 * MIB
    before = rss_bytes()
    for path in ("models/simple/infer", "repository/index", "logging"):
        answer = await ask(
            burst.server.http_port, "POST", f"/v2/{path}", packed, {"Content-Encoding": "gzip"}
        )
        assert answer.status == 400
        assert "exceeds the maximum allowed value of 67108864 bytes" in answer.error
    assert rss_bytes() - before < 256 * MIB


@pytest.mark.parametrize(
    "path",
    [
        "models/simple/infer",
        "models/simple/generate",
        "repository/index",
        "repository/models/none/load",
        "repository/models/none/unload",
        "systemsharedmemory/region/r/register",
        "logging",
        "trace/setting",
        "cudasharedmemory/region/r/register",
        "models/simple/trace/setting",
    ],
)
async def test_json_that_nests_without_end_is_refused_by_every_endpoint(burst: Target, path: str) -> None:
    """A parser that descends for each bracket would run out of stack."""
    for body in (b'{"x":' * 200_000, b"[" * 1_000_000, b'{"ready":' + b"[" * 103 + b"]" * 103 + b"}"):
        answer = await ask(burst.server.http_port, "POST", f"/v2/{path}", body)
        assert answer.status in (400, 501), answer.body
        assert "nesting depth exceeds" in answer.error or answer.status == 501


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("repository/models/none/load", '{"parameters": {"config": "%s"}}'),
        ("repository/models/none/load", '{"parameters": {"%s": "x"}}'),
        ("systemsharedmemory/region/r/register", '{"key": "%s", "byte_size": 1}'),
        ("trace/setting", '{"%s": "1"}'),
        ("trace/setting", '{"trace_rate": "%s"}'),
        ("logging", '{"%s": 1}'),
        ("logging", '{"log_format": "%s"}'),
        ("models/simple/infer", '{"id": "%s", "inputs": []}'),
        ("models/simple/infer", '{"parameters": {"%s": 1}, "inputs": []}'),
    ],
)
async def test_half_a_surrogate_pair_is_refused_wherever_it_stands(
    burst: Target, path: str, body: str
) -> None:
    """JSON can spell what no UTF-8 text holds, and so no protobuf message."""
    answer = await ask(burst.server.http_port, "POST", f"/v2/{path}", (body % r"\ud800").encode())
    assert answer.status == 400, answer.body
    assert answer.error.startswith("failed to parse the request JSON buffer: ")


@pytest.mark.parametrize("version", ["9" * 5_000, "-" + "9" * 5_000, "9" * 19])
async def test_a_version_of_thousands_of_digits_is_no_version(burst: Target, version: str) -> None:
    """Python refuses to read such a number, with an exception of its own."""
    expected = f"failed to get model version from specified version string '{version}'"[:1_900]
    request = pb.ModelInferRequest(model_name="simple", model_version=version)
    code, text = await refusal(burst, "ModelInfer", request)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert text.startswith(expected)
    answer = await ask(burst.server.http_port, "GET", f"/v2/models/simple/versions/{version}")
    assert answer.status == 400
    assert answer.error.startswith(expected)


# Names that lead elsewhere

BY_NAME = {
    "ModelReady": pb.ModelReadyRequest,
    "ModelMetadata": pb.ModelMetadataRequest,
    "ModelConfig": pb.ModelConfigRequest,
    "ModelStatistics": pb.ModelStatisticsRequest,
}


@pytest.mark.parametrize("name", HOSTILE_NAMES)
async def test_no_rpc_follows_a_name_out_of_the_repository(burst: Target, name: str) -> None:
    """They are names of no model, and no answer tells a path."""
    for method, make in BY_NAME.items():
        answer = await refusal(burst, method, make(name=name))
        if method == "ModelReady":
            assert not getattr(answer, "ready", False)
        else:
            assert answer[0] in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT), method
            assert_tells_no_path(answer[1])
    code, text = await refusal(burst, "ModelInfer", pb.ModelInferRequest(model_name=name))
    assert code is grpc.StatusCode.NOT_FOUND
    assert_tells_no_path(text)
    code, text = await refusal(burst, "RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=name))
    assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)
    assert_tells_no_path(text)
    unloaded = await refusal(burst, "RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name=name))
    assert unloaded == pb.RepositoryModelUnloadResponse() or unloaded[0] is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("escape", [str, lambda name: "".join(f"%{byte:02x}" for byte in name.encode())])
@pytest.mark.parametrize("name", HOSTILE_NAMES)
async def test_no_path_follows_a_name_out_of_the_repository(burst: Target, name: str, escape: Any) -> None:
    """As it is and with each byte escaped; a name with a slash or a blank is another path then."""
    if escape is str and not name.isprintable():
        pytest.skip("not a path that HTTP can spell")
    calls = {"": "GET", "/ready": "GET", "/config": "GET", "/stats": "GET", "/infer": "POST"}
    paths = {f"/v2/models/{escape(name)}{call}": method for call, method in calls.items()}
    paths[f"/v2/repository/models/{escape(name)}/load"] = "POST"
    for path, method in paths.items():
        answer = await ask(
            burst.server.http_port, method, path.replace(" ", "%20"), b"{}" * (method == "POST")
        )
        assert answer.status in (400, 404, 500), (path, answer)
        assert_tells_no_path(answer.error)


def assert_tells_no_path(text: str) -> None:
    """See that a refusal quotes the caller at most: no folder of this machine."""
    assert str(Path.home()) + "/" not in text
    assert "/repository" not in text
    assert "root:" not in text


# Loads that bring along what they should not

GOOD_CONFIG: Mapping[str, Any] = {
    "backend": "onnxruntime",
    "max_batch_size": 8,
    "input": [{"name": f"INPUT{index}", "data_type": "TYPE_INT32", "dims": [16]} for index in (0, 1)],
    "output": [{"name": f"OUTPUT{index}", "data_type": "TYPE_INT32", "dims": [16]} for index in (0, 1)],
}


@pytest.mark.parametrize(
    "change",
    [
        {
            "output": [
                {"name": "OUTPUT0", "data_type": "TYPE_INT32", "dims": [16], "label_filename": "../../x"}
            ]
        },
        {"default_model_filename": "../../matrix/1/model.onnx"},
        {"default_model_filename": "/etc/passwd"},
        {
            "platform": "ensemble",
            "ensemble_scheduling": {"step": [{"model_name": "../x", "model_version": -1}]},
        },
        {"backend": "python"},
        {"model_operations": {"op_library_filename": ["../../evil.so"]}},
        {"name": "../simple"},
        {"max_batch_size": 10**30},
        {"instance_group": [{"count": 2**31 - 1}]},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_a_config_that_reaches_out_is_refused_and_the_old_one_serves(
    burst: Target, change: dict[str, Any]
) -> None:
    request = pb.RepositoryModelLoadRequest(model_name="simple")
    request.parameters["config"].string_param = json.dumps({**GOOD_CONFIG, **change})
    code, text = await refusal(burst, "RepositoryModelLoad", request)
    assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNIMPLEMENTED)
    assert "incident" not in text
    assert_tells_no_path(text)


@pytest.mark.parametrize(
    "file", ["../../x", "/abs", "1/../../x", "..", "", "1/model.onnx/x/../../../../y", "A" * 256, "\0", "1"]
)
async def test_a_file_that_leads_out_of_the_model_is_refused(burst: Target, file: str) -> None:
    request = pb.RepositoryModelLoadRequest(model_name="simple")
    request.parameters["config"].string_param = json.dumps(GOOD_CONFIG)
    request.parameters[f"file:{file}"].bytes_param = b"x"
    code, text = await refusal(burst, "RepositoryModelLoad", request)
    assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)
    assert "incident" not in text
    assert_tells_no_path(text)
