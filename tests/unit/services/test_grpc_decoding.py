"""A message that cannot be parsed ends its call with Triton's status, whatever kind of call it is."""

from __future__ import annotations

import grpc
import pytest
from grpc_health.v1 import health_pb2
from support.grpc_front import front
from tritonclient.grpc import service_pb2 as pb

GARBAGE = b"\xff\xff\xff"
NO_UTF8 = b"\x0a\x02\xff\xfe"
"""A name that protobuf takes for no text."""

UNPARSED = (grpc.StatusCode.INTERNAL, "Unable to parse request")
METHODS = {
    "unary": "/inference.GRPCInferenceService/ModelInfer",
    "stream": "/inference.GRPCInferenceService/ModelStreamInfer",
    "unary to stream": "/grpc.health.v1.Health/Watch",
    "reflection": "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "vision": "/naiad.vision.v1.VisionService/Detect",
}


async def outcome(address: str, path: str, message: bytes) -> tuple[grpc.StatusCode, str]:
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_stream(path, None, None)(message, timeout=10)
        try:
            async for _ in call:
                pass
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        return await call.code(), await call.details()


@pytest.mark.parametrize("kind", METHODS)
async def test_garbage_is_told_in_tritons_words(kind: str) -> None:
    """GRPC's own answer is UNKNOWN with the name of a Python exception, and a traceback in the log for each."""
    async with front() as address:
        assert await outcome(address, METHODS[kind], GARBAGE) == UNPARSED


async def test_a_text_that_is_not_utf_8_is_no_message() -> None:
    async with front() as address:
        assert await outcome(address, METHODS["unary"], NO_UTF8) == UNPARSED


async def test_what_came_on_the_stream_before_is_answered() -> None:
    """Only the rest of the stream is lost."""
    async with front() as address, grpc.aio.insecure_channel(address) as channel:
        messages = [pb.ModelInferRequest(id="7").SerializeToString(), GARBAGE]
        call = channel.stream_stream(METHODS["stream"], None, None)(iter(messages), timeout=10)
        ids: list[str] = []

        async def take_all() -> None:
            async for answer in call:
                ids.append(pb.ModelStreamInferResponse.FromString(answer).infer_response.id)  # noqa: PERF401  # kept when it breaks

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await take_all()
        assert ids == ["7"]
        assert (caught.value.code(), caught.value.details()) == UNPARSED


async def test_good_messages_pass_unchanged() -> None:
    async with front() as address:
        code, _ = await outcome(
            address, "/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest().SerializeToString()
        )
        assert code is grpc.StatusCode.OK
