"""Every call over real sockets, by the stock clients and by hand, to a protocol that adds and subtracts."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from structlog.testing import capture_logs
from support.fake_triton import FakeTriton
from support.http import Answer, Front, ask, front, peer
from tritonclient.utils import InferenceServerException

from naiad.core import errors
from naiad.services.forwarding import forward_pattern
from naiad.services.restricted import parse_restrictions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = "inference-header-content-length"


@pytest.fixture
def fake() -> FakeTriton:
    return FakeTriton()


@pytest.fixture
async def running(fake: FakeTriton) -> AsyncIterator[Front]:
    async with front(fake, max_input_size=2**20) as started:
        yield started


def operands(client: Any, *, binary: bool = True) -> list[Any]:
    """The inputs of `simple`: 0, 1, …, 15 and threes."""
    inputs = [client.InferInput(name, [1, 16], "INT32") for name in ("INPUT0", "INPUT1")]
    inputs[0].set_data_from_numpy(np.arange(16, dtype=np.int32).reshape(1, 16), binary_data=binary)
    inputs[1].set_data_from_numpy(np.full((1, 16), 3, dtype=np.int32), binary_data=binary)
    return inputs


def check_simple(result: Any) -> None:
    assert np.array_equal(result.as_numpy("OUTPUT0"), [np.arange(16) + 3])
    assert np.array_equal(result.as_numpy("OUTPUT1"), [np.arange(16) - 3])


async def test_the_stock_client_infers_in_every_encoding(running: Front) -> None:
    def run() -> None:
        with triton.InferenceServerClient(running.address) as client:
            for binary in (True, False):
                inputs = operands(triton, binary=binary)
                check_simple(client.infer("simple", inputs))
                outputs = [triton.InferRequestedOutput(f"OUTPUT{n}", binary_data=binary) for n in (0, 1)]
                check_simple(client.infer("simple", inputs, outputs=outputs, model_version="1"))
                for encoding in ("gzip", "deflate"):
                    result = client.infer(
                        "simple",
                        inputs,
                        request_compression_algorithm=encoding,
                        response_compression_algorithm=encoding,
                    )
                    check_simple(result)
            answers = [client.async_infer("simple", operands(triton), request_id=str(n)) for n in range(8)]
            for number, answer in enumerate(answers):
                result = answer.get_result()
                check_simple(result)
                assert result.get_response()["id"] == str(number)

    await asyncio.to_thread(run)


async def test_the_stock_asyncio_client_makes_every_call(running: Front, fake: FakeTriton) -> None:
    async with triton_aio.InferenceServerClient(running.address) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("simple")
        assert not await client.is_model_ready("missing")
        assert (await client.get_server_metadata())["name"] == "triton"
        assert (await client.get_model_metadata("simple"))["inputs"][0]["shape"] == [-1, 16]
        assert (await client.get_model_config("simple"))["max_batch_size"] == 8
        check_simple(await client.infer("simple", operands(triton_aio)))
        # A number that a float would not hold.
        statistics = await client.get_inference_statistics("simple")
        assert statistics["model_stats"][0]["inference_count"] == 2**53 + 1
        assert (await client.get_inference_statistics())["model_stats"][0]["name"] == "simple"
        index = await client.get_model_repository_index()
        assert index == [{"name": "simple", "version": "1", "state": "READY"}, {"name": "unloaded"}]
        await client.load_model("m", config="{}", files={"file:1/model.onnx": b"\0\1"})
        assert fake.asked[-1].parameters["file:1/model.onnx"].bytes_param == b"\0\1"
        await client.unload_model("m", unload_dependents=True)
        assert fake.asked[-1].parameters["unload_dependents"].bool_param
        await client.register_system_shared_memory("r", "/key", 64, offset=8)
        assert (fake.asked[-1].key, fake.asked[-1].offset, fake.asked[-1].byte_size) == ("/key", 8, 64)
        regions = await client.get_system_shared_memory_status()
        assert regions == [{"name": "region", "key": "/key", "offset": 0, "byte_size": 64}]
        await client.unregister_system_shared_memory()
        await client.register_cuda_shared_memory("r", "AAEC", 0, 64)
        assert fake.asked[-1].raw_handle == b"\0\1\2"
        assert await client.get_cuda_shared_memory_status() == []
        await client.unregister_cuda_shared_memory("r")
        assert fake.asked[-1].name == "r"
        changed = await client.update_trace_settings(
            "simple", {"trace_level": ["TIMESTAMPS"], "trace_rate": None}
        )
        assert changed == {"trace_level": ["TIMESTAMPS"], "trace_rate": ""}
        assert fake.asked[-1].model_name == "simple"
        assert await client.get_trace_settings() == {"trace_level": ["OFF"], "trace_rate": "1000"}
        assert await client.update_log_settings({"log_verbose_level": 1}) == {
            "log_info": True,
            "log_verbose_level": 1,
        }
        assert await client.get_log_settings() == {"log_info": True, "log_verbose_level": 0}


@pytest.mark.parametrize(
    "path", ["/v2/health/live", "/v2/health/ready", "/v2/models/simple/versions/1/ready"]
)
async def test_probes_answer_get_and_head_with_nothing(running: Front, path: str) -> None:
    async with peer(running.port) as other:
        for method in ("GET", "HEAD"):
            found = await other.ask(method, path)
            assert (found.status, found.body) == (200, b"")


async def test_what_is_not_ready_is_400(running: Front, fake: FakeTriton) -> None:
    fake.is_live = fake.is_ready = False
    for path in ("/v2/health/live", "/v2/health/ready"):
        found = await ask(running.port, "GET", path)
        assert (found.status, found.body) == (400, b"")
    found = await ask(running.port, "GET", "/v2/models/missing/ready")
    assert (found.status, found.error) == (400, "Model version not ready")


async def test_unknown_paths_methods_and_models_are_refused(running: Front) -> None:
    port = running.port
    found = await ask(port, "GET", "/v2/nothing")
    assert (found.status, found.error, found.headers["content-type"]) == (
        404,
        "Not Found",
        "application/json",
    )
    found = await ask(port, "POST", "/v2/health/live")
    assert (found.status, found.error, found.headers["allow"]) == (405, "Method Not Allowed", "GET, HEAD")
    found = await ask(port, "DELETE", "/v2/models/simple")
    assert found.status == 405
    found = await ask(port, "GET", "/v2/models/missing")
    assert (found.status, found.error) == (404, "Request for unknown model: 'missing' is not found")
    found = await ask(port, "POST", "/v2/models/missing/infer", b"no json")
    assert (found.status, found.error) == (404, "Request for unknown model: 'missing' is not found")
    found = await ask(port, "POST", "/v2/models/simple/versions/x/infer", b"{}")
    assert found.status == 400
    assert "failed to get model version from specified version string 'x'" in found.error


async def test_what_is_not_served_says_so(running: Front) -> None:
    for call in ("generate", "generate_stream"):
        found = await ask(running.port, "POST", f"/v2/models/simple/{call}", b"{}")
        assert found.status == 501
        assert "generate" in found.error
    for path in ("R/index", "R/models/m/load", "R/models/m/unload"):
        found = await ask(running.port, "POST", f"/v2/repository/{path}")
        assert (found.status, found.error) == (501, "'repository_name' specification is not supported")


async def test_the_index_asks_for_ready_versions_and_nothing_else(running: Front, fake: FakeTriton) -> None:
    path = "/v2/repository/index"
    assert len((await ask(running.port, "POST", path, b'{"ready":true}')).json) == 1
    assert fake.asked[-1].ready
    for body in (b'{"ready":1}', b'{"ready":' + b"[" * 250_000 + b"true" + b"]" * 250_000 + b"}"):
        found = await ask(running.port, "POST", path, body)
        assert found.status == 400
        assert found.error.startswith("Invalid value for 'ready': expected a boolean")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidArgumentError, 400), (errors.NotFoundError, 404), (errors.AlreadyExistsError, 400),
        (errors.UnsupportedError, 501), (errors.UnavailableError, 503), (errors.CancelledError, 400),
        (errors.InternalError, 500), (errors.DeadlineExceededError, 504), (errors.ResourceExhaustedError, 429),
    ],
)  # fmt: skip
async def test_each_error_has_its_status_and_its_own_words(
    running: Front, fake: FakeTriton, error: type[errors.NaiadError], status: int
) -> None:
    fake.error = error("why é")
    found = await ask(running.port, "POST", "/v2/repository/models/m/load")
    assert (found.status, found.error) == (status, "why é")


async def test_an_unexpected_error_is_a_fixed_sentence(running: Front, fake: FakeTriton) -> None:
    fake.error = RuntimeError("a secret path")
    found = await ask(running.port, "POST", "/v2/repository/models/m/load")
    assert found.status == 500
    assert found.error.startswith("unexpected error in the server, logged as incident ")


async def infer(port: int, model: str, body: bytes, **headers: str) -> Answer:
    return await ask(
        port,
        "POST",
        f"/v2/models/{model}/infer",
        body,
        {name.replace("_", "-"): value for name, value in headers.items()},
    )


def request(**members: Any) -> bytes:
    tensor = {"name": "INPUT0", "datatype": "FP32", "shape": [2], "data": [1, 2]}
    return json.dumps({"inputs": [tensor | members]}).encode()


async def test_json_in_and_json_out(running: Front) -> None:
    found = await infer(running.port, "echo_FP32", request(data=[float("nan"), float("-inf")]))
    assert found.headers["content-type"] == "application/json"
    assert KEY not in found.headers
    assert b'"data":[NaN,-Infinity]' in found.body


async def test_texts_travel_as_json_and_in_binary(running: Front) -> None:
    body = request(datatype="BYTES", data=["é", ""])
    assert (await infer(running.port, "echo_BYTES", body)).json["outputs"][0]["data"] == ["é", ""]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_without_a_json_part_is_the_only_input(running: Front, chunked: bool) -> None:
    values = np.arange(6, dtype=np.float32)
    if chunked:
        async with peer(running.port) as other:
            head = f"POST /v2/models/raw/infer HTTP/1.1\r\nHost: x\r\n{KEY}: 0\r\nTransfer-Encoding: chunked\r\n\r\n"
            await other.send(head.encode() + b"18\r\n" + values.tobytes() + b"\r\n0\r\n\r\n")
            found = await other.answer()
    else:
        found = await infer(running.port, "raw", values.tobytes(), inference_header_content_length="0")
    assert found.status == 200
    assert found.headers["content-type"] == "application/octet-stream"
    length = int(found.headers[KEY])
    (output,) = json.loads(found.body[:length])["outputs"]
    assert output["shape"] == [1, 6]
    assert found.body[length:] == values.tobytes()


async def test_a_raw_text_is_one_element(running: Front) -> None:
    found = await infer(running.port, "word", b"427", inference_header_content_length="0")
    assert found.body[int(found.headers[KEY]) :] == b"\3\0\0\x00427"


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            "simple",
            "Raw request must only have 1 input (found 1) to be deduced but got 2 inputs in 'simple' model configuration",
        ),
        (
            "matrix",
            "The shape of the raw input 'INPUT0' can not be deduced because there are more than one variable-sized dimension",
        ),
        ("echo_BYTES", "For BYTE datatype raw input 'INPUT0', the model must have input shape [1]"),
    ],
)
async def test_a_raw_input_that_fits_in_several_ways_is_refused(
    running: Front, model: str, text: str
) -> None:
    found = await infer(running.port, model, b"12345678", inference_header_content_length="0")
    assert (found.status, found.error) == (400, text)


@pytest.mark.parametrize(
    ("length", "text"),
    [
        ("abc", "Unable to parse Inference-Header-Content-Length, got: abc"),
        ("1 2", "Unable to parse Inference-Header-Content-Length, got: 1 2"),
        ("99999999999", "value is out of range [ -2147483648, 2147483647 ], got: 99999999999"),
        ("9" * 5_000, "value is out of range"),
        ("-1", "inference header size should be in range (0, 85), got: -1"),
        ("86", "inference header size should be in range (0, 85), got: 86"),
    ],
)
async def test_a_wrong_length_of_the_json_part_is_refused(running: Front, length: str, text: str) -> None:
    body = request(data=[1, 2]).ljust(85)
    assert len(body) == 85
    found = await infer(running.port, "echo_FP32", body, inference_header_content_length=length)
    assert found.status == 400
    assert text in found.error


async def test_other_encodings_are_named_and_refused(running: Front) -> None:
    found = await infer(running.port, "echo_FP32", request(), content_encoding="br")
    assert (found.status, found.error) == (501, "Unsupported compression type")
    assert found.headers["accept-encoding"] == "gzip, deflate"


async def test_only_inferences_are_compressed(running: Front) -> None:
    """Triton's clients inflate no other answer."""
    found = await ask(running.port, "GET", "/v2", headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in found.headers
    found = await infer(running.port, "echo_FP32", request(), accept_encoding="deflate")
    assert json.loads(zlib.decompress(found.body))["outputs"][0]["data"] == [1.0, 2.0]


LIMIT = 2**20


async def test_a_json_body_may_be_as_long_as_the_limit_and_no_longer(running: Front) -> None:
    assert (await infer(running.port, "echo_FP32", request().ljust(LIMIT))).status == 200
    found = await infer(running.port, "echo_FP32", request().ljust(LIMIT + 1))
    assert (found.status, found.error) == (
        400,
        f"request JSON size of {LIMIT + 1} bytes exceeds the maximum allowed input size of {LIMIT} bytes. "
        "Use --http-max-input-size to increase the limit.",
    )
    # Of a body with binary tensors the JSON part alone counts.
    tensor = request(data=None).replace(b'"data": null', b'"parameters": {"binary_data_size": 8}')
    body = tensor.ljust(LIMIT + 1) + bytes(8)
    found = await infer(running.port, "echo_FP32", body, inference_header_content_length=str(LIMIT + 1))
    assert found.error.startswith(f"request JSON size of {LIMIT + 1} bytes exceeds")


async def test_binary_tensors_may_be_longer_than_the_limit(running: Front) -> None:
    values = np.arange(LIMIT, dtype=np.float32)
    head = request(shape=[LIMIT], data=None).replace(
        b'"data": null', b'"parameters": {"binary_data_size": %d}' % values.nbytes
    )
    body = head[:-1] + b',"parameters":{"binary_data_output":true}}'
    found = await infer(
        running.port, "echo_FP32", body + values.tobytes(), inference_header_content_length=str(len(body))
    )
    assert found.status == 200
    assert found.body[int(found.headers[KEY]) :] == values.tobytes()


async def test_the_whole_body_has_its_own_limit(fake: FakeTriton) -> None:
    async with front(fake, max_body_size=1_000) as started:
        found = await infer(started.port, "echo_FP32", bytes(1_001), inference_header_content_length="9")
        assert (found.status, found.error) == (
            400,
            "request body of 1001 bytes exceeds the maximum allowed size of 1000 bytes. "
            "Use --http-max-body-size to increase the limit.",
        )


async def test_raw_and_inflated_bodies_have_the_limit_too(running: Front) -> None:
    found = await infer(running.port, "raw", bytes(LIMIT + 4), inference_header_content_length="0")
    assert found.error.startswith(
        f"Raw input has a byte_size ({LIMIT + 4} bytes) that exceeds the maximum allowed value"
    )
    packed = gzip.compress(request().ljust(LIMIT + 1))
    found = await infer(running.port, "echo_FP32", packed, content_encoding="gzip")
    assert (found.status, found.error) == (
        400,
        f"Decompressed data size exceeds the maximum allowed value of {LIMIT} bytes. "
        "Use --http-max-input-size to increase the limit.",
    )


async def test_every_body_has_the_limit(running: Front) -> None:
    for path in ("repository/index", "repository/models/m/load", "logging", "models/simple/generate"):
        found = await ask(running.port, "POST", f"/v2/{path}", b" " * (LIMIT + 1))
        assert found.error.startswith(f"request JSON size of {LIMIT + 1} bytes exceeds")


async def test_an_announced_body_that_is_too_long_is_refused_before_it_is_sent(running: Front) -> None:
    async with peer(running.port) as other:
        head = "POST /v2/models/simple/infer HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n"
        await other.send(head.encode())
        assert (await other.answer()).status == 400


async def test_a_long_json_tensor_is_answered_exactly(running: Front) -> None:
    values = np.random.default_rng(2).standard_normal(20_000).astype(np.float32)
    found = await infer(running.port, "echo_FP32", request(shape=[20_000], data=values.tolist()))
    data = np.array(found.json["outputs"][0]["data"], dtype=np.float32)
    assert np.array_equal(data, values)


async def test_restricted_categories_need_their_header_by_every_way(fake: FakeTriton) -> None:
    rules = parse_restrictions(
        ["metadata,inference:Infer-Key=secret", "model-repository:admin=x"], flag="--http-restricted-api"
    )
    async with front(fake, restrictions=rules) as started:
        for path in (
            "/v2",
            "/v2/",
            "/%762",
            "/v2/models/simple",
            "/v2/models/simple/versions/1/",
            "/v2/m%6fdels/simple",
        ):
            found = await ask(started.port, "GET", path)
            assert (found.status, found.error) == (
                403,
                "This API is restricted, expecting header 'Infer-Key'",
            )
            assert (await ask(started.port, "GET", path, headers={"infer-key": "Secret"})).status == 403
            assert (await ask(started.port, "GET", path, headers={"INFER-KEY": "secret"})).status == 200
        # Before the method and the body are looked at.
        assert (await ask(started.port, "GET", "/v2/models/simple/infer")).status == 403
        assert (await ask(started.port, "POST", "/v2/repository/R/index")).status == 403
        assert (await ask(started.port, "GET", "/v2/models/simple/stats")).status == 200
        async with triton_aio.InferenceServerClient(started.address) as client:
            with pytest.raises(InferenceServerException, match="This API is restricted"):
                await client.unload_model("m", headers={"infer-key": "secret"})
            await client.unload_model("m", headers={"admin": "x"})


async def test_matching_headers_are_forwarded_but_never_a_secret(fake: FakeTriton) -> None:
    settings: dict[str, Any] = {
        "header_forward_pattern": forward_pattern("^my|key|sequence", flag="--http-header-forward-pattern"),
        "restrictions": parse_restrictions(["inference:Infer-Key=secret"], flag="--http-restricted-api"),
    }
    async with front(fake, **settings) as started:
        headers = {"My-Header": "é", "other": "x", "infer-key": "secret"}
        found = await infer(started.port, "echo_FP32", request(), **headers)
        assert found.status == 200
        assert fake.forwarded == {"my-header": "é"}
        assert fake.headers == {}
        found = await infer(started.port, "echo_FP32", request(), **headers, sequence__id="1")
        assert found.status == 200
        found = await ask(
            started.port, "POST", "/v2/models/echo_FP32/infer", request(), headers | {"sequence_id": "1"}
        )
        assert (found.status, found.error) == (
            400, "Header 'sequence_id' is reserved for Triton usage and cannot be forwarded."
        )  # fmt: skip


async def test_a_traced_request_has_all_its_headers(running: Front, fake: FakeTriton) -> None:
    fake.wants_headers = True
    await infer(running.port, "echo_FP32", request(), traceparent="00-1-2-01")
    assert fake.headers["traceparent"] == "00-1-2-01"


@pytest.mark.parametrize(
    ("method", "path", "logged"),
    [
        ("GET", "/v2/models/simple/infer", {"status": 405, "model": "simple"}),
        ("GET", "/v2/models/nope/config", {"status": 404, "model": "nope"}),
        ("PUT", "/v2/systemsharedmemory/region/nope/status", {"status": 405}),
        ("GET", "/nowhere", {"status": 404}),
    ],
)
async def test_a_refused_call_is_logged_with_its_status_model_and_peer(
    running: Front, method: str, path: str, logged: dict[str, Any]
) -> None:
    with capture_logs() as lines:
        answer = await ask(running.port, method, path)
    assert answer.status == logged["status"]
    (line,) = lines
    assert re.fullmatch(r"127\.0\.0\.1:\d+", line.pop("peer"))
    assert line.pop("reason") == answer.error
    assert line == {
        "event": "call refused",
        "log_level": "debug",
        "method": f"{method} {path}",
        **logged,
    }


async def test_a_peer_of_ipv6_is_logged_as_its_address_is_written(fake: FakeTriton) -> None:
    try:
        async with front(fake, address="::1") as started:
            with capture_logs() as lines:
                reader, writer = await asyncio.open_connection("::1", started.port)
                writer.write(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n")
                await reader.readline()
                port = writer.get_extra_info("sockname")[1]
                writer.close()
                await writer.wait_closed()
    except errors.UnavailableError:
        pytest.skip("this machine has no IPv6")
    assert lines[0]["peer"] == f"[::1]:{port}"
