"""The gRPC front end alone: real sockets, options, TLS and restrictions over a service that echoes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from grpc_health.v1._async import HealthServicer  # what `health.aio` names, for type checkers too
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from naiad.services.grpc_settings import GrpcSettings
from naiad.services.grpc_transport import create_server, register_services
from naiad_protos.naiad.experiments.v1 import experiments_pb2_grpc
from naiad_protos.naiad.vision.v1 import vision_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Echo(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # untyped base
    """Live, and answers an inference with its own inputs."""

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Any) -> pb.ServerLiveResponse:  # noqa: N802  # the protocol's name
        return pb.ServerLiveResponse(live=True)

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:  # noqa: N802  # same
        return pb.ModelInferResponse(
            model_name=request.model_name, id=request.id, raw_output_contents=request.raw_input_contents
        )

    async def ModelStreamInfer(  # noqa: N802  # same
        self, request_iterator: AsyncIterator[pb.ModelInferRequest], context: Any
    ) -> AsyncIterator[pb.ModelStreamInferResponse]:
        async for request in request_iterator:
            yield pb.ModelStreamInferResponse(infer_response=await self.ModelInfer(request, context))


def register_echo(server: Any) -> None:
    """Register every service of the server; inference echoes, health is SERVING, ours are UNIMPLEMENTED."""
    register_services(
        server,
        inference=Echo(),
        vision=vision_pb2_grpc.VisionServiceServicer(),  # type: ignore[abstract]  # in its stubs alone
        experiments=experiments_pb2_grpc.ExperimentServiceServicer(),  # type: ignore[abstract]  # the same
        health=HealthServicer(),
    )


@asynccontextmanager
async def front(**settings: Any) -> AsyncIterator[str]:
    """Serve on a free port of loopback with the given `GrpcSettings`; gives the address."""
    defaults: dict[str, Any] = {"address": "127.0.0.1", "port": 0}
    wanted = GrpcSettings(**(defaults | settings))
    server = create_server(wanted)
    register_echo(server)
    port = await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)
