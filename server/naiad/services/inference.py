"""`inference.GRPCInferenceService`: Triton's service, answered by the data plane."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from naiad.core.errors import UnavailableError, UnsupportedError
from naiad.services import catalog
from naiad.services.conversion import (
    is_heavy_request,
    is_heavy_response,
    parse_version,
    to_domain,
    to_protobuf,
)
from naiad.services.parameters import NO_SHARED_MEMORY, check_parameters, check_tensor_parameters
from naiad.services.status import rpc, status_of
from naiad.services.streams import OrderedStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from grpc.aio import ServicerContext

    from naiad.config.server_config import ServerConfig
    from naiad.dataplane import DataPlane
    from naiad.services.calls import Calls

    Context = ServicerContext[Any, Any]

_NOT_BY_RPC = "explicit model load / unload is not allowed if polling is enabled"


class InferenceService(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # untyped base
    """Answers unmodified Triton clients.

    RPCs that Naiad does not serve answer UNIMPLEMENTED and say so.
    """

    def __init__(self, dataplane: DataPlane, config: ServerConfig, calls: Calls) -> None:
        self._dataplane = dataplane
        self._manager = dataplane.manager
        self._config = config
        self.calls = calls

    @rpc
    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        """True for as long as the process answers."""
        if self.calls.is_draining:
            raise UnavailableError("Server exiting")
        return pb.ServerLiveResponse(live=True)

    @rpc
    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        """Whether requests can be sent: every model is loaded, or with lenient readiness the server is up."""
        return pb.ServerReadyResponse(ready=self.is_ready())

    def is_ready(self) -> bool:
        """The readiness rule, shared with the health service."""
        if not self._dataplane.accepting:
            return False
        return not self._config.strict_readiness or self._manager.all_ready()

    @rpc
    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        """Whether the version answers; an unknown model is not ready, and no error."""
        return pb.ModelReadyResponse(
            ready=self._manager.is_ready(request.name, parse_version(request.version))
        )

    @rpc
    async def ServerMetadata(
        self,
        request: pb.ServerMetadataRequest,
        context: Context,
    ) -> pb.ServerMetadataResponse:
        """Name, version and the extensions that are really served."""
        return catalog.server_metadata(self._config)

    @rpc
    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        """Names, datatypes and shapes; the execution providers travel as trailing metadata."""
        with self._dataplane.acquire(request.name, parse_version(request.version)) as handle:
            context.set_trailing_metadata(catalog.provider_metadata(handle))
            ready = self._manager.ready_versions(request.name)
            return catalog.model_metadata(handle, [serving.key.version for serving in ready], request)

    @rpc
    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:
        """The config that is in force: normalised and completed."""
        with self._dataplane.acquire(request.name, parse_version(request.version)) as handle:
            return pb.ModelConfigResponse(config=handle.config.message)

    @rpc
    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, context: Context
    ) -> pb.ModelStatisticsResponse:
        """Counts and times of one model, or of all ready ones."""
        return catalog.model_statistics(self._manager, request.name, parse_version(request.version))

    @rpc
    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, context: Context
    ) -> pb.RepositoryIndexResponse:
        """Every known version with its state and, if it is not ready, the reason."""
        if request.repository_name:
            raise UnsupportedError("'repository_name' specification is not supported")
        return catalog.repository_index(self._manager, ready_only=request.ready)

    @rpc
    async def RepositoryModelLoad(
        self,
        request: pb.RepositoryModelLoadRequest,
        context: Context,
    ) -> pb.RepositoryModelLoadResponse:
        """Refused: models are loaded at start."""
        raise UnavailableError(_NOT_BY_RPC)

    @rpc
    async def RepositoryModelUnload(
        self,
        request: pb.RepositoryModelUnloadRequest,
        context: Context,
    ) -> pb.RepositoryModelUnloadResponse:
        """Refused: models are unloaded at exit."""
        raise UnavailableError(_NOT_BY_RPC)

    @rpc
    async def SystemSharedMemoryStatus(
        self, request: pb.SystemSharedMemoryStatusRequest, context: Context
    ) -> pb.SystemSharedMemoryStatusResponse:
        """Not served."""
        raise UnsupportedError(NO_SHARED_MEMORY)

    @rpc
    async def SystemSharedMemoryRegister(
        self, request: pb.SystemSharedMemoryRegisterRequest, context: Context
    ) -> pb.SystemSharedMemoryRegisterResponse:
        """Not served."""
        raise UnsupportedError(NO_SHARED_MEMORY)

    @rpc
    async def SystemSharedMemoryUnregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest, context: Context
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """Not served."""
        raise UnsupportedError(NO_SHARED_MEMORY)

    @rpc
    async def CudaSharedMemoryStatus(
        self, request: pb.CudaSharedMemoryStatusRequest, context: Context
    ) -> pb.CudaSharedMemoryStatusResponse:
        """Not served."""
        raise UnsupportedError(NO_SHARED_MEMORY)

    @rpc
    async def CudaSharedMemoryRegister(
        self, request: pb.CudaSharedMemoryRegisterRequest, context: Context
    ) -> pb.CudaSharedMemoryRegisterResponse:
        """Not served."""
        raise UnsupportedError(NO_SHARED_MEMORY)

    @rpc
    async def CudaSharedMemoryUnregister(
        self, request: pb.CudaSharedMemoryUnregisterRequest, context: Context
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        """Not served."""
        raise UnsupportedError(NO_SHARED_MEMORY)

    @rpc
    async def TraceSetting(
        self, request: pb.TraceSettingRequest, context: Context
    ) -> pb.TraceSettingResponse:
        """Not served."""
        raise UnsupportedError("Naiad does not serve trace settings")

    @rpc
    async def LogSettings(self, request: pb.LogSettingsRequest, context: Context) -> pb.LogSettingsResponse:
        """Not served."""
        raise UnsupportedError("Naiad does not serve log settings by RPC")

    @rpc
    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        """Run one request."""
        return await self._infer(request, deadline_ns(context))

    @rpc
    async def ModelStreamInfer(
        self,
        request_iterator: AsyncIterator[pb.ModelInferRequest],
        context: Context,
    ) -> None:
        """Run a stream of requests; answers come in request order, faults in-band."""
        deadline = deadline_ns(context)
        stream = OrderedStream(
            request_iterator,
            lambda message: self._stream_infer(message, deadline),
            limit=self._config.stream_max_in_flight,
            calls=self.calls,
        )
        await stream.run(context.write)

    async def _infer(self, message: pb.ModelInferRequest, deadline: int | None) -> pb.ModelInferResponse:
        version = parse_version(message.model_version)
        with self._dataplane.acquire(message.model_name, version) as handle:
            check_parameters(message.parameters)
            check_tensor_parameters(message)
            convert = partial(to_domain, message, handle.config, deadline)
            request = await asyncio.to_thread(convert) if is_heavy_request(message) else convert()
            response = await self._dataplane.infer(handle, request)
            limit = self._config.grpc_max_message_bytes
            answer = partial(to_protobuf, response, message, handle.config, limit)
            return await asyncio.to_thread(answer) if is_heavy_response(response) else answer()

    async def _stream_infer(
        self, message: pb.ModelInferRequest, deadline: int | None
    ) -> pb.ModelStreamInferResponse:
        try:
            answer = await self._infer(message, deadline)
        except Exception as error:  # noqa: BLE001  # in-band: the stream lives on
            return pb.ModelStreamInferResponse(
                error_message=status_of(error).message,
                infer_response=pb.ModelInferResponse(id=message.id),
            )
        answer.parameters["triton_final_response"].bool_param = True
        return pb.ModelStreamInferResponse(infer_response=answer)


def deadline_ns(context: Context) -> int | None:
    """The call's deadline on the monotonic clock, or None."""
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic_ns() + int(remaining * 1e9)
