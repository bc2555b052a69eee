"""A server that does nothing: what Python's gRPC costs by itself (`python -m bench.empty NAIAD PORT FOLDER`).

For each FOLDER/MODEL.request it asks the Naiad that listens at NAIAD once, and gives the same bytes to
everybody who asks for that model from then on: no parsing, no checks, no model.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naiad.services.grpc_polling import choose_polling

choose_polling(os.environ)  # as the server does, before gRPC is imported; it obeys a variable that is set

import grpc  # noqa: E402
from tritonclient.grpc import service_pb2 as pb  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SERVICE = "inference.GRPCInferenceService"
_COPIED = ("ModelMetadata", "ModelConfig", "ServerMetadata")
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class EmptyServer:
    """Replays another server's answers."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], bytes] = {}
        self._counts: Counter[str] = Counter()

    async def learn(self, address: str, requests: dict[str, bytes]) -> None:
        """Ask `address` everything once that clients ask; `requests` are what to infer by model."""
        async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
            for model, request in requests.items():
                name = pb.ModelMetadataRequest(name=model).SerializeToString()
                for method in _COPIED:
                    self._answers[method, model] = await _call(channel, method, name)
                self._answers["ModelInfer", model] = await _call(channel, "ModelInfer", request)

    async def serve(self, port: int) -> None:
        """Answer until the process is ended."""
        server: Any = grpc.aio.server(options=_OPTIONS)  # its stubs lack the method that generated code calls
        make = grpc.unary_unary_rpc_method_handler
        handlers = {name: make(handler) for name, handler in self._handlers().items()}
        server.add_registered_method_handlers(SERVICE, handlers)
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await server.wait_for_termination()

    def _handlers(self) -> dict[str, Callable[[bytes, Any], Awaitable[bytes]]]:
        ready = pb.ServerLiveResponse(live=True).SerializeToString()  # the first field of each is the same
        handlers: dict[str, Callable[[bytes, Any], Awaitable[bytes]]] = {
            name: _fixed(ready) for name in ("ServerLive", "ServerReady", "ModelReady")
        }
        return handlers | {
            "ModelInfer": self._infer,
            "ModelStatistics": self._statistics,
            **{name: self._copied(name) for name in _COPIED},
        }

    async def _infer(self, data: bytes, _: Any) -> bytes:
        model = data[2 : 2 + data[1]].decode()  # the first field is the model's name
        self._counts[model] += 1
        return self._answers["ModelInfer", model]

    async def _statistics(self, data: bytes, _: Any) -> bytes:
        name = pb.ModelStatisticsRequest.FromString(data).name
        count = self._counts[name]
        reply = pb.ModelStatisticsResponse()
        row = reply.model_stats.add(name=name, version="1", inference_count=count, execution_count=count)
        # perf_analyzer takes a version for the one that was asked by what these count.
        for part in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
            getattr(row.inference_stats, part).count = count
        return bytes(reply.SerializeToString())

    def _copied(self, method: str) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def copied(data: bytes, _: Any) -> bytes:
            name = pb.ModelMetadataRequest.FromString(data).name
            known = next(model for asked, model in self._answers if asked == method)
            return self._answers[method, name or known]

        return copied


async def _call(channel: Any, method: str, request: bytes) -> bytes:
    return bytes(await channel.unary_unary(f"/{SERVICE}/{method}")(request))


def _fixed(reply: bytes) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def fixed(_: bytes, __: Any) -> bytes:
        return reply

    return fixed


async def _main(address: str, port: str, requests: dict[str, bytes]) -> None:
    server = EmptyServer()
    await server.learn(address, requests)
    await server.serve(int(port))


if __name__ == "__main__":
    naiad, own_port, folder = sys.argv[1:]
    asyncio.run(_main(naiad, own_port, {file.stem: file.read_bytes() for file in Path(folder).iterdir()}))
