"""The messages of a `ModelStreamInfer` call: each is answered in-band, and most start when they are read."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tritonclient.grpc import service_pb2 as pb

from naiad.core.errors import DeadlineExceededError, EngineTimeoutError
from naiad.lifecycle.caller import NOBODY
from naiad.services.answer import is_heavy_response
from naiad.services.callers import caller_of
from naiad.services.forwarding import forwarded
from naiad.services.grpc_decoding import parse
from naiad.services.off_loop import off_loop
from naiad.services.status import status_of
from naiad.services.streams import Ready
from naiad.services.wire.reply import FINAL_RESPONSE, to_stream_wire
from naiad.telemetry.tracing import FrontEnd

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping

    from grpc.aio import ServicerContext

    from naiad.core.tensors import InferResponse
    from naiad.lifecycle.caller import Caller
    from naiad.services.admitted import Admitted
    from naiad.services.planned import PlannedRequests, Started
    from naiad.services.streams import Work
    from naiad.services.triton import TritonService

    Context = ServicerContext[Any, Any]

GRPC_ERROR = "triton_grpc_error"
"""The header by which a client asks that a failed request ends its stream with the real status."""


class InferCall(NamedTuple):
    """What a call brings beside its messages."""

    deadline_ns: int | None
    headers: Mapping[str, str]
    forwarded: Mapping[str, str] | None
    ends_stream_on_error: bool
    peer: str
    caller: Caller = NOBODY

    @classmethod
    def of(
        cls,
        context: Context,
        forward_pattern: re.Pattern[str] | None,
        *,
        with_headers: bool,
        is_stream: bool = False,
    ) -> Self:
        """Read a call's metadata; `with_headers` keeps all of it.

        Raises:
            InvalidArgumentError: the caller's key is too long, or names no version.
        """
        metadata = context.invocation_metadata() or ()
        return cls(
            deadline_ns=deadline_ns(context),
            headers={key: str(value) for key, value in metadata} if with_headers else {},
            forwarded=forwarded(metadata, forward_pattern) if forward_pattern else None,
            ends_stream_on_error=(GRPC_ERROR, "true") in metadata,
            peer=context.peer(),
            caller=caller_of(metadata, is_stream=is_stream),
        )

    async def admit(self, triton: TritonService, message: pb.ModelInferRequest) -> Admitted:
        """Validate one of the call's requests and queue it; see `TritonService.admit`."""
        return await triton.admit(
            message,
            deadline_ns=self.deadline_ns,
            headers=self.headers,
            forwarded=self.forwarded,
            front_end=FrontEnd.GRPC,
            caller=self.caller,
        )


def deadline_ns(context: Context) -> int | None:
    """The call's deadline on the monotonic clock, or None."""
    remaining = context.time_remaining()
    return None if remaining is None else time.monotonic_ns() + int(remaining * 1e9)


class InferStream:
    """Answers serialized `ModelInferRequest`s with serialized `ModelStreamInferResponse`s."""

    def __init__(
        self, triton: TritonService, planned: PlannedRequests, call: InferCall, *, max_message_bytes: int
    ) -> None:
        """Begin with no message read.

        Args:
            triton: answers what goes the long way.
            planned: starts requests of a kind that was seen before.
            call: the stream's call.
            max_message_bytes: the largest answer.
        """
        self._triton = triton
        # Headers that become parameters are no part of what a plan knows.
        self._plans = planned if call.forwarded is None else None
        self._call = call
        self._max_message_bytes = max_message_bytes
        self._admission = asyncio.Lock()

    def answer(self, data: bytes) -> Work[bytes]:
        """The answer to a message, now if its model has run it already.

        A message that its model has begun with is a task: whoever cancels it takes the message back.
        """
        try:
            started = None
            if self._plans:
                started = self._plans.start(data, self._call.deadline_ns, self._call.caller)
        except Exception as error:  # noqa: BLE001  # in-band: the stream lives on
            return Ready(self._refused(error, parse(pb.ModelInferRequest, data)))
        if started is None:
            return self._whole(data)
        reply = self._reply_at_once(started)
        if reply is not None:
            return Ready(reply)
        task = asyncio.create_task(self._started(started, data), name="stream message")
        task.add_done_callback(partial(_take_back, started.future))
        return task

    def _reply_at_once(self, started: Started) -> bytes | None:
        if not started.future.done():
            return None
        try:
            return started.stream_reply(self._max_message_bytes)
        except Exception:  # noqa: BLE001  # told when it is this message's turn
            return None

    async def _started(self, started: Started, data: bytes) -> bytes:
        try:
            await started.future
            return started.stream_reply(self._max_message_bytes)
        except Exception as error:  # noqa: BLE001  # in-band: the stream lives on
            return self._failed(error, parse(pb.ModelInferRequest, data))

    async def _whole(self, data: bytes) -> bytes:
        """Answer a message of a kind that is not known yet; it may be from now on."""
        message = parse(pb.ModelInferRequest, data)
        try:
            # One after the other, as the lock is asked for: a model must see a sequence in the order in which
            # it was sent, also where one message takes longer to convert than the next.
            async with self._admission:
                admitted = await self._call.admit(self._triton, message)
        except Exception as error:  # noqa: BLE001  # in-band: the stream lives on
            return self._refused(error, message)
        try:
            with admitted:
                if self._plans:
                    self._plans.learn(data, message, admitted)
                answer = await admitted.answer()
                write = partial(to_stream_wire, answer, self._max_message_bytes)
                return await off_loop(write) if is_heavy_response(answer.response) else write()
        except Exception as error:  # noqa: BLE001  # in-band: the stream lives on
            return self._failed(error, message)

    def _refused(self, error: Exception, message: pb.ModelInferRequest) -> bytes:
        """What is told of a request that no model has seen."""
        return self._fault(error, message, pb.ModelInferResponse(id=message.id))

    def _failed(self, error: Exception, message: pb.ModelInferRequest) -> bytes:
        """What is told of a request that its model failed; raises the error where that ends the stream."""
        # A caller's deadline is the whole stream's: past it no client reads what would be told in-band.
        is_over = isinstance(error, DeadlineExceededError) and not isinstance(error, EngineTimeoutError)
        if self._call.ends_stream_on_error or is_over:
            raise error
        failed = pb.ModelInferResponse(
            model_name=message.model_name, model_version=message.model_version, id=message.id
        )
        failed.parameters[FINAL_RESPONSE].bool_param = True
        return self._fault(error, message, failed)

    def _fault(
        self, error: Exception, request: pb.ModelInferRequest, response: pb.ModelInferResponse
    ) -> bytes:
        status = status_of(error, method="ModelStreamInfer", model=request.model_name, peer=self._call.peer)
        reply = pb.ModelStreamInferResponse(error_message=status.message, infer_response=response)
        return bytes(reply.SerializeToString())


def _take_back(future: asyncio.Future[InferResponse], _: asyncio.Task[bytes]) -> None:
    """A task that is cancelled before its first step has not waited for the model, and cannot cancel it."""
    if not future.cancel() and not future.cancelled():
        future.exception()  # asked for also where nobody is left to be told
