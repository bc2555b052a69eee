"""Sends what the strategies make to a running server, and judges what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Self

import grpc
import httptools
from fuzz.models import REGION_BYTES, SPARE, good_request, is_right_answer
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from fuzz.http_strategies import HttpRequest

INFER = "/inference.GRPCInferenceService/ModelInfer"
PATIENCE_S = 10.0
"""After so long without an answer the server hangs."""

REFUSALS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
"""What a wrong request may be told; INTERNAL only in one of the sentences below."""

INTERNAL_TEXTS = (
    "Unable to parse request",
    "Unable to open shared memory region",
    "shared memory size specified with the request for output",
    "failed to load ",
    "Unable to parse 'shape'",
)
HTTP_STATUSES = frozenset({200, 400, 404, 405, 408, 429, 431, 500, 501, 503})
NO_SUCH_TEXTS = ("incident", "Traceback", "metadata size", "Unexpected <class", "Received RST_STREAM")
"""Signs of an accident, in whatever status."""


class Fault(AssertionError):  # noqa: N818  # a finding, and an error of the server rather than of this code
    """The server did what it must never do."""


class GrpcPeer:
    """A client of the gRPC port. A context manager: it closes its channel."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(
            address, options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        )
        self._stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._raw = self._channel.unary_unary(INFER, None, None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close(None)

    async def register_region(self, key: str) -> None:
        """Let requests find the region `region`, as it is called in them."""
        await self._stub.SystemSharedMemoryRegister(
            pb.SystemSharedMemoryRegisterRequest(name="region", key=key, byte_size=REGION_BYTES)
        )

    async def reload_spare(self) -> None:
        """Unload a model and load it again, once its memory has been given back."""
        await self._stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=SPARE))
        await asyncio.sleep(0.5)  # nobody uses it, so it leaves at once, and then the heaps are trimmed
        await self._stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=SPARE))

    async def infer(self, request: pb.ModelInferRequest) -> str:
        """One request; the status that came."""
        try:
            response = await self._stub.ModelInfer(request, timeout=PATIENCE_S)
        except grpc.aio.AioRpcError as error:
            return judged(error.code(), error.details() or "")
        if response.id != request.id or len(response.outputs) != len(response.raw_output_contents):
            raise Fault(f"not an answer to the request: {response}")
        return "OK"

    async def send(self, message: bytes) -> str:
        """Bytes that may be no message at all; the status that came."""
        try:
            pb.ModelInferResponse.FromString(await self._raw(message, timeout=PATIENCE_S))
        except grpc.aio.AioRpcError as error:
            return judged(error.code(), error.details() or "")
        return "OK"

    async def stream(self, requests: Sequence[pb.ModelInferRequest]) -> list[str]:
        """Requests on one stream: an answer each, in their order; "OK" or "in-band" for each."""
        results: list[str] = []
        try:
            call = self._stub.ModelStreamInfer(iter(requests), timeout=PATIENCE_S)
            async for answer in call:
                sent = requests[len(results)]
                if answer.infer_response.id != sent.id:
                    raise Fault(f"answer {len(results)} of a stream has another id: {answer}")
                _check_text(answer.error_message)
                results.append("in-band" if answer.error_message else "OK")
        except grpc.aio.AioRpcError as error:
            raise Fault(f"a request ended its stream: {error.code()} {error.details()}") from error
        if len(results) != len(requests):
            raise Fault(f"{len(requests)} requests of a stream got {len(results)} answers")
        return results

    async def check(self) -> None:
        """See that a good request is answered right, once alone and once in a stream."""
        response = await self._stub.ModelInfer(good_request(), timeout=PATIENCE_S)
        if not is_right_answer(response):
            raise Fault(f"a good request got a wrong answer: {response}")
        async for answer in self._stub.ModelStreamInfer(iter([good_request()]), timeout=PATIENCE_S):
            if answer.error_message or not is_right_answer(answer.infer_response):
                raise Fault(f"a good request of a stream got a wrong answer: {answer}")


def judged(code: grpc.StatusCode, text: str) -> str:
    """The status' name; Fault if the server must not answer so."""
    _check_text(text)
    if code is grpc.StatusCode.INTERNAL:
        if not text.startswith(INTERNAL_TEXTS):
            raise Fault(f"INTERNAL without a known reason: {text!r}")
    elif code not in REFUSALS:
        raise Fault(f"{code.name}: {text!r}")
    elif not text:
        raise Fault(f"{code.name} without a reason")
    return code.name


def _check_text(text: str) -> None:
    for sign in NO_SUCH_TEXTS:
        if sign in text:
            raise Fault(f"an accident was told to the caller: {text!r}")


class _Reader:
    """Parses answers strictly, as they come."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.headers: dict[bytes, bytes] = {}
        self.is_done = False
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.is_done = True


@contextlib.asynccontextmanager
async def connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A raw connection to the HTTP port."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask_http(port: int, request: HttpRequest) -> str:
    """One request on a connection of its own: the status, or "closed" if it was no whole request."""
    is_head = request.data.startswith(b"HEAD ")
    async with connection(port) as (reader, writer):
        writer.write(request.data)
        parsed = _Reader()
        try:
            async with asyncio.timeout(PATIENCE_S):
                with contextlib.suppress(ConnectionError):
                    await writer.drain()
                    while not parsed.is_done and not (is_head and parsed.status):
                        data = await reader.read(65_536)
                        if not data:
                            break
                        parsed.feed(data)
        except TimeoutError:
            raise Fault("neither an answer nor an end of the connection") from None
        except httptools.HttpParserError as error:
            raise Fault(f"the answer is no HTTP: {error}") from error
    return _judged_http(parsed, is_whole=request.is_whole, is_head=is_head)


def _judged_http(answer: _Reader, *, is_whole: bool, is_head: bool) -> str:
    if not answer.status:
        if is_whole:
            raise Fault("a whole request was not answered")
        return "closed"
    if answer.status not in HTTP_STATUSES:
        raise Fault(f"status {answer.status}: {answer.body!r}")
    if answer.status >= 400 and answer.body and not is_head:
        text = json.loads(answer.body)["error"]
        _check_text(text)
        if answer.status == 500 and not text.startswith(INTERNAL_TEXTS):
            raise Fault(f"500 without a known reason: {text!r}")
    return str(answer.status)
