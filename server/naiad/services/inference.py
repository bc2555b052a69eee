"""`inference.GRPCInferenceService`: Triton's service over gRPC. Reads and writes the wire, no more."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from naiad.core.errors import UnavailableError
from naiad.lifecycle.caller import NOBODY, Caller
from naiad.services import catalog
from naiad.services.answer import is_heavy_response
from naiad.services.callers import caller_of
from naiad.services.calls import SHUTTING_DOWN
from naiad.services.grpc_decoding import parse, takes_bytes
from naiad.services.http2.methods import starts_with
from naiad.services.infer_stream import InferCall, InferStream, deadline_ns
from naiad.services.off_loop import off_loop
from naiad.services.planned import PlannedRequests
from naiad.services.status import UndecodableError, abort, rpc, status_of, work_rpc
from naiad.services.streams import OrderedStream
from naiad.services.wire.reply import to_wire
from naiad.services.wire.scan import scan

if TYPE_CHECKING:
    import asyncio
    import re
    from collections.abc import AsyncIterator

    from grpc.aio import ServicerContext

    from naiad.core.tensors import InferResponse
    from naiad.services.http2.call import Call
    from naiad.services.planned import Started
    from naiad.services.triton import TritonService

    Context = ServicerContext[Any, Any]


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
        self._planned = PlannedRequests(triton)
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

    @starts_with("begin_infer")
    @takes_bytes
    async def ModelInfer(self, data: bytes, context: Context) -> bytes:
        """Run one request: `ModelInferRequest` to `ModelInferResponse`, both serialized."""
        # Written out, and not by `work_rpc`: this is the one call whose microseconds count.
        accepted = self.calls.begin()
        try:
            if not accepted:
                raise UnavailableError(SHUTTING_DOWN)  # noqa: TRY301  # one way out for all errors
            caller = self._caller(context)
            # Headers that become parameters are no part of what a plan knows.
            started = None
            if self._forward_pattern is None:
                started = self._planned.start(data, deadline_ns(context), caller, shares_outputs=True)
            if started is None:
                return await self._infer(data, context, caller)
            try:
                await started.future
                return started.reply(self._max_message_bytes)
            finally:
                started.release()
        except Exception as error:  # noqa: BLE001  # the status table decides
            await abort(context, error, method="ModelInfer", model=_model_name(data))
        finally:
            self.calls.end(accepted)

    def begin_infer(self, data: bytes, call: Call) -> bool:
        """Hand a request of a known kind to its model, without a task; False if it must go the long way."""
        if self._forward_pattern is not None or self.calls.is_draining:
            return False
        accepted = self.calls.begin()
        try:
            caller = self._caller(call)
            started = self._planned.start(data, call.deadline_ns, caller, shares_outputs=True)
        except Exception as error:  # noqa: BLE001  # the status table decides
            self.calls.end(accepted)
            self._refuse(call, error, data)
            return True
        if started is None:
            self.calls.end(accepted)
            return False
        finish = partial(self._finish, call, started, accepted)
        if started.future.done():
            finish(started.future)
        else:
            call.on_cancel = started.future.cancel
            started.future.add_done_callback(finish)
        return True

    def _finish(
        self, call: Call, started: Started, accepted: bool, future: asyncio.Future[InferResponse]
    ) -> None:
        """Answer what `begin_infer` has begun."""
        try:
            if not future.cancelled():
                call.answer(started.reply(self._max_message_bytes))
        except Exception as error:  # noqa: BLE001  # the status table decides
            self._refuse(call, error, None, started.plan.model_name)
        finally:
            started.release()
            self.calls.end(accepted)

    def _refuse(self, call: Call, error: Exception, data: bytes | None, model: str = "") -> None:
        status = status_of(
            error, method="ModelInfer", model=model if data is None else _model_name(data), peer=call.peer()
        )
        call.end(status.code, status.message, status.trailers)

    def _caller(self, context: Any) -> Caller:
        """Who a call is from. Without a key it draws a version once, whichever ways its request goes."""
        if not self._triton.has_experiments:
            return caller_of(context.invocation_metadata() or ())
        known = getattr(context, "note", None)
        if isinstance(known, Caller):
            return known
        caller = caller_of(context.invocation_metadata() or ())
        if caller is NOBODY:
            caller = Caller(pins={})
        if hasattr(context, "note"):  # gRPC's own context has no such place, and its calls go one way
            context.note = caller
        return caller

    async def _infer(self, data: bytes, context: Context, caller: Caller) -> bytes:
        """The answer to a request of a kind that is not known yet; it may be from now on."""
        message = parse(pb.ModelInferRequest, data)
        call = self._call(context)._replace(caller=caller)
        with await call.admit(self._triton, message) as admitted:
            self._planned.learn(data, message, admitted)
            answer = await admitted.answer()
        write = partial(to_wire, answer, self._max_message_bytes)
        return await off_loop(write) if is_heavy_response(answer.response) else write()

    @takes_bytes
    @rpc
    async def ModelStreamInfer(self, request_iterator: AsyncIterator[bytes], context: Context) -> None:
        """Run a stream of requests; answers come in request order, faults in-band.

        `ModelInferRequest`s to `ModelStreamInferResponse`s, both serialized. With the header
        `triton_grpc_error: true` the first request that fails in the model ends the stream with the real
        status, and the requests after it are cancelled.
        """
        messages = InferStream(
            self._triton,
            self._planned,
            self._call(context, is_stream=True),
            max_message_bytes=self._max_message_bytes,
        )
        stream = OrderedStream(
            request_iterator, messages.answer, limit=self._stream_max_in_flight, calls=self.calls
        )
        await stream.run(context.write)

    def _call(self, context: Context, *, is_stream: bool = False) -> InferCall:
        return InferCall.of(
            context, self._forward_pattern, with_headers=self._triton.wants_headers, is_stream=is_stream
        )


def _model_name(data: bytes) -> str:
    """The model that a serialized request names; for the log."""
    scanned = scan(data)  # a refusal under load must not cost a copy of a picture
    try:
        return str(parse(pb.ModelInferRequest, data if scanned is None else scanned.head).model_name)
    except UndecodableError:
        return ""
