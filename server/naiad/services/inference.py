"""`inference.GRPCInferenceService`: Triton's service over gRPC. Reads and writes the wire, no more."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from naiad.core.errors import DeadlineExceededError
from naiad.services import catalog
from naiad.services.answer import is_heavy_response
from naiad.services.forwarding import forwarded
from naiad.services.replies import to_protobuf
from naiad.services.status import rpc, status_of, work_rpc
from naiad.services.streams import OrderedStream
from naiad.telemetry.tracing import FrontEnd

if TYPE_CHECKING:
    import re
    from collections.abc import AsyncIterator, Mapping

    from grpc.aio import ServicerContext

    from naiad.services.answer import InferAnswer
    from naiad.services.triton import TritonService

    Context = ServicerContext[Any, Any]

GRPC_ERROR = "triton_grpc_error"
"""The header by which a client asks that a failed request ends its stream with the real status."""

FINAL_RESPONSE = "triton_final_response"


class InferenceService(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # untyped base
    """Answers unmodified Triton clients: each method hands its message to `TritonService`."""

    def __init__(
        self,
        triton: TritonService,
        *,
        max_message_bytes: int,
        stream_max_in_flight: int,
        forward_pattern: re.Pattern[str] | None,
    ) -> None:
        """Create the service.

        Args:
            triton: what answers.
            max_message_bytes: the largest reply.
            stream_max_in_flight: messages of one stream that are worked on at once.
            forward_pattern: which headers become parameters of a request; None for none.
        """
        self._triton = triton
        self._max_message_bytes = max_message_bytes
        self._stream_max_in_flight = stream_max_in_flight
        self._forward_pattern = forward_pattern
        self.calls = triton.calls

    @rpc
    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        """See `TritonService.server_live`."""
        return pb.ServerLiveResponse(live=self._triton.server_live())

    @rpc
    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        """See `TritonService.server_ready`."""
        return pb.ServerReadyResponse(ready=self._triton.server_ready())

    @rpc
    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        """See `TritonService.model_ready`."""
        return pb.ModelReadyResponse(ready=self._triton.model_ready(request.name, request.version))

    @rpc
    async def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: Context
    ) -> pb.ServerMetadataResponse:
        """See `TritonService.server_metadata`."""
        return self._triton.server_metadata()

    @work_rpc
    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        """Names, datatypes and shapes; the execution providers travel as trailing metadata."""
        with self._triton.acquire(request.name, request.version) as handle:
            context.set_trailing_metadata(catalog.provider_metadata(handle))
            return self._triton.model_metadata(request)

    @work_rpc
    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:
        """See `TritonService.model_config`."""
        return self._triton.model_config(request)

    @rpc
    async def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, context: Context
    ) -> pb.ModelStatisticsResponse:
        """See `TritonService.model_statistics`; of one model, the reasons for its batches go beside it."""
        statistics = self._triton.model_statistics(request)
        if request.name:
            context.set_trailing_metadata(self._triton.batch_reasons(request))
        return statistics

    @rpc
    async def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, context: Context
    ) -> pb.RepositoryIndexResponse:
        """See `TritonService.repository_index`."""
        return await self._triton.repository_index(request)

    @rpc
    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: Context
    ) -> pb.RepositoryModelLoadResponse:
        """See `TritonService.load`."""
        return await self._triton.load(request)

    @rpc
    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: Context
    ) -> pb.RepositoryModelUnloadResponse:
        """See `TritonService.unload`."""
        return await self._triton.unload(request)

    @rpc
    async def SystemSharedMemoryStatus(
        self, request: pb.SystemSharedMemoryStatusRequest, context: Context
    ) -> pb.SystemSharedMemoryStatusResponse:
        """See `TritonService.system_shared_memory_status`."""
        return self._triton.system_shared_memory_status(request)

    @rpc
    async def SystemSharedMemoryRegister(
        self, request: pb.SystemSharedMemoryRegisterRequest, context: Context
    ) -> pb.SystemSharedMemoryRegisterResponse:
        """See `TritonService.system_shared_memory_register`."""
        return self._triton.system_shared_memory_register(request)

    @rpc
    async def SystemSharedMemoryUnregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest, context: Context
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """See `TritonService.system_shared_memory_unregister`."""
        return self._triton.system_shared_memory_unregister(request)

    @rpc
    async def CudaSharedMemoryStatus(
        self, request: pb.CudaSharedMemoryStatusRequest, context: Context
    ) -> pb.CudaSharedMemoryStatusResponse:
        """See `TritonService.cuda_shared_memory_status`."""
        return self._triton.cuda_shared_memory_status(request)

    @rpc
    async def CudaSharedMemoryRegister(
        self, request: pb.CudaSharedMemoryRegisterRequest, context: Context
    ) -> pb.CudaSharedMemoryRegisterResponse:
        """See `TritonService.cuda_shared_memory_register`."""
        return self._triton.cuda_shared_memory_register(request)

    @rpc
    async def CudaSharedMemoryUnregister(
        self, request: pb.CudaSharedMemoryUnregisterRequest, context: Context
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        """See `TritonService.cuda_shared_memory_unregister`."""
        return self._triton.cuda_shared_memory_unregister(request)

    @rpc
    async def TraceSetting(
        self, request: pb.TraceSettingRequest, context: Context
    ) -> pb.TraceSettingResponse:
        """See `TritonService.trace_setting`."""
        return self._triton.trace_setting(request)

    @rpc
    async def LogSettings(self, request: pb.LogSettingsRequest, context: Context) -> pb.LogSettingsResponse:
        """See `TritonService.log_settings`."""
        return self._triton.log_settings(request)

    @work_rpc
    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        """Run one request."""
        call = self._call(context)
        answer = await self._triton.infer(
            request,
            deadline_ns=call.deadline_ns,
            headers=call.headers,
            forwarded=call.forwarded,
            front_end=FrontEnd.GRPC,
        )
        return await self._reply(answer)

    @rpc
    async def ModelStreamInfer(
        self,
        request_iterator: AsyncIterator[pb.ModelInferRequest],
        context: Context,
    ) -> None:
        """Run a stream of requests; answers come in request order, faults in-band.

        With the header `triton_grpc_error: true` the first request that fails in the model ends the stream
        with the real status, and the requests after it are cancelled.
        """
        call = self._call(context)
        admission = asyncio.Lock()
        stream = OrderedStream(
            request_iterator,
            lambda message: self._stream_infer(message, call, admission),
            limit=self._stream_max_in_flight,
            calls=self.calls,
        )
        await stream.run(context.write)

    async def _stream_infer(
        self, message: pb.ModelInferRequest, call: _Call, admission: asyncio.Lock
    ) -> pb.ModelStreamInferResponse:
        try:
            # One after the other, as the lock is asked for: a model must see a sequence in the order in which
            # it was sent, also where one message takes longer to convert than the next.
            async with admission:
                admitted = await self._triton.admit(
                    message,
                    deadline_ns=call.deadline_ns,
                    headers=call.headers,
                    forwarded=call.forwarded,
                    front_end=FrontEnd.GRPC,
                )
        except Exception as error:  # noqa: BLE001  # in-band: the stream lives on
            return _fault(error, message, pb.ModelInferResponse(id=message.id), call)
        try:
            with admitted:
                reply = await self._reply(await admitted.answer())
        except Exception as error:
            # A deadline is the whole stream's: past it no client reads what would be told in-band.
            if call.ends_stream_on_error or isinstance(error, DeadlineExceededError):
                raise
            failed = pb.ModelInferResponse(
                model_name=message.model_name, model_version=message.model_version, id=message.id
            )
            failed.parameters[FINAL_RESPONSE].bool_param = True
            return _fault(error, message, failed, call)
        reply.parameters[FINAL_RESPONSE].bool_param = True
        return pb.ModelStreamInferResponse(infer_response=reply)

    async def _reply(self, answer: InferAnswer) -> pb.ModelInferResponse:
        write = partial(to_protobuf, answer, self._max_message_bytes)
        return await asyncio.to_thread(write) if is_heavy_response(answer.response) else write()

    def _call(self, context: Context) -> _Call:
        metadata = context.invocation_metadata() or ()
        return _Call(
            deadline_ns=deadline_ns(context),
            headers={key: str(value) for key, value in metadata} if self._triton.wants_headers else {},
            forwarded=forwarded(metadata, self._forward_pattern) if self._forward_pattern else None,
            ends_stream_on_error=(GRPC_ERROR, "true") in metadata,
            peer=context.peer(),
        )


class _Call(NamedTuple):
    """What a call brings beside its messages."""

    deadline_ns: int | None
    headers: Mapping[str, str]
    forwarded: Mapping[str, str] | None
    ends_stream_on_error: bool
    peer: str


def _fault(
    error: Exception, request: pb.ModelInferRequest, response: pb.ModelInferResponse, call: _Call
) -> pb.ModelStreamInferResponse:
    status = status_of(error, method="ModelStreamInfer", model=request.model_name, peer=call.peer)
    return pb.ModelStreamInferResponse(error_message=status.message, infer_response=response)


def deadline_ns(context: Context) -> int | None:
    """The call's deadline on the monotonic clock, or None."""
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic_ns() + int(remaining * 1e9)
