"""The load of our own: what an open loop charges the server with, and how a failing server is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from bench.cases import Case
from bench.load import OpenLoop, TensorCaller, measure, open_loop, request_bytes
from tritonclient.grpc import service_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    Handler = Callable[[bytes, Any], Awaitable[bytes]]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Handler], Awaitable[str]]]:
    """Starts servers that answer ModelInfer with a coroutine; gives their addresses."""
    servers = []

    async def start(infer: Handler) -> str:
        server = grpc.aio.server()
        handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(infer)}
        service = grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)
        server.add_generic_rpc_handlers((service,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        await server.stop(None)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    (tmp_path / "x").write_bytes(b"\0" * 16)
    return Case("k", "name", "model", "", {"x": ("float32", (1, 4))}, str(tmp_path))


def test_a_request_is_what_tritons_client_would_send(case: Case) -> None:
    message = service_pb2.ModelInferRequest.FromString(request_bytes(case))
    assert (message.model_name, message.inputs[0].name, message.inputs[0].datatype) == ("model", "x", "FP32")
    assert (list(message.inputs[0].shape), list(message.raw_input_contents)) == ([1, 4], [b"\0" * 16])


async def test_a_server_that_stops_is_charged_with_all_that_was_due_meanwhile(
    serve: Callable[[Handler], Awaitable[str]], case: Case
) -> None:
    """Ten requests 4 ms apart, no answer before all were sent: a closed loop would see one slow call."""
    arrived = 0
    all_here = asyncio.Event()

    async def infer(request: bytes, context: Any) -> bytes:
        nonlocal arrived
        arrived += 1
        if arrived == 10:
            all_here.set()
        await all_here.wait()
        return b""

    async with grpc.aio.insecure_channel(await serve(infer)) as channel:
        loop = OpenLoop(TensorCaller(channel, request_bytes(case)))
        await loop.run([index * 4_000_000 for index in range(10)])
    waited = [loop.answered_ns[index] for index in range(10)]
    assert waited[0] >= 36_000_000
    assert waited[4] >= 20_000_000
    assert all(late >= 0 for late in list(loop.sent_late_ns.values())[1:])


async def test_requests_without_an_answer_are_errors(
    serve: Callable[[Handler], Awaitable[str]], case: Case
) -> None:
    answered = 0

    async def infer(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        nonlocal answered
        answered += 1
        if answered % 2:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "full")
        return b""

    async with grpc.aio.insecure_channel(await serve(infer)) as channel:
        caller = TensorCaller(channel, request_bytes(case))
        window = await open_loop(caller, rate=200, seed=0, ramp_s=0.0, window_s=0.3, pid=0)
    assert window["errors"] > 0
    assert window["errors"] + window["count"] == answered
    assert len(window["latencies_us"]) == window["count"]


async def test_a_closed_loop_ends_with_the_first_failure_and_says_it(
    serve: Callable[[Handler], Awaitable[str]], case: Case
) -> None:
    async def infer(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        context.set_code(grpc.StatusCode.INTERNAL)
        context.set_details("it broke")
        return b""

    found = await measure(case, await serve(infer), in_flight=2, ramp_s=5.0, window_s=5.0, pid=0)
    assert found == {"failure": "AioRpcError: it broke"}
