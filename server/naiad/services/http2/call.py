"""A gRPC call as its servicer sees it, and its way from the request's bytes to the trailers."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import structlog

from naiad.services.http2 import frames, headers, messages
from naiad.services.http2.context import CallContext, Requests
from naiad.services.http2.faults import CallFault
from naiad.services.off_loop import off_loop
from naiad.services.status import status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from naiad.services.http2.context import Metadata
    from naiad.services.http2.headers import CallHead
    from naiad.services.http2.messages import Received
    from naiad.services.http2.methods import Method
    from naiad.services.http2.stream import Stream
    from naiad.services.http2.streams import Streams


log = structlog.get_logger(__name__)

MESSAGE_COST = 64
"""Bytes that a message which waits to be read counts beside its own: many small ones take memory, too."""

SMALL_PACKED_BYTES = 64 * 1024
"""Up to this size a compressed message is inflated at once: it becomes a thousand times as much at most."""

DEADLINE_EXCEEDED = "Deadline Exceeded"
NOT_ONE_MESSAGE = "the method takes exactly one message"


class Call(CallContext):
    """One call: what `grpc.aio` calls a servicer context, as far as services need it.

    It ends once: by `answer`, by `end`, by its deadline, or because the client leaves. What is at work for it
    is cancelled then.
    """

    __slots__ = (
        "_drained",
        "_head_sent",
        "_inbox",
        "_is_complete",
        "_is_ended",
        "_method",
        "_reading",
        "_request",
        "_stream",
        "_streams",
        "_task",
        "_timer",
        "on_cancel",
    )

    def __init__(self, streams: Streams, stream: Stream, head: CallHead, method: Method) -> None:
        super().__init__(head, streams.peer)
        self._streams = streams
        self._stream = stream
        self._method = method
        self.on_cancel: Callable[[], Any] | None = None
        """What is called when the call ends before it was answered, where no task works on it."""
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._request: Received | None = None
        self._inbox: deque[Received] | None = None
        self._reading: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._head_sent = False
        self._is_complete = False
        self._is_ended = False
        if head.timeout_ns is not None:
            self._timer = streams.loop.call_later(head.timeout_ns / 1e9, self._expire)

    # What the connection tells

    def opened(self) -> None:
        """The call's head has come; its messages will."""
        if self._method.request_streaming:
            self._inbox = deque()
            self._begin(self._handled(Requests(self.next_message)))

    def message(self, message: Received) -> None:
        """A message of the client has come."""
        if self._is_ended:
            return
        if self._inbox is not None:
            self._inbox.append(message)
            self._stream.hold(len(message) + MESSAGE_COST)
            self._wake_reader()
        elif self._request is None:
            self._request = message
        else:
            self.fail(grpc.StatusCode.UNIMPLEMENTED, NOT_ONE_MESSAGE)

    def half_closed(self) -> None:
        """The client sends no further message."""
        self._is_complete = True
        if self._inbox is not None:
            self._wake_reader()
            return
        request, self._request = self._request, None
        if self._is_ended:
            return
        if request is None:
            self.end(grpc.StatusCode.UNIMPLEMENTED, NOT_ONE_MESSAGE)
        elif (
            self._method.starts is None
            or isinstance(request, messages.Packed)
            or not self._method.starts(request, self)
        ):
            self._begin(self._answered(request))

    def drained(self) -> None:
        """The client has taken all that was written."""
        waiter, self._drained = self._drained, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def cancel(self) -> None:
        """The client has left, or is thrown out: nobody waits for the answer."""
        if not self._is_ended:
            self._is_ended = True
            self._stop_work()
            self._over()
        elif self._drained is not None:  # it has ended by other hands than those that write
            self._drained.cancel()

    def fail(self, code: grpc.StatusCode, message: str) -> None:
        """End the call with a status, whatever works for it."""
        if self._is_ended:
            return
        if self._stream.backlog:  # the client does not take what came before the status
            self._streams.reset(self._stream, frames.CANCEL)
            return
        self._stop_work()
        self.end(code, message)

    def _expire(self) -> None:
        self.fail(grpc.StatusCode.DEADLINE_EXCEEDED, DEADLINE_EXCEEDED)

    def _stop_work(self) -> None:
        if self._task is not None:
            self._task.cancel()
        elif self.on_cancel is not None:
            self.on_cancel()
        if self._drained is not None:
            self._drained.cancel()

    def _over(self) -> None:
        """Let go of what the call holds, once it has ended and nothing works for it."""
        if self._is_over or not self._is_ended or (self._task is not None and not self._task.done()):
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.on_cancel = None
        if self._inbox:
            self._inbox.clear()
        self._task = None
        self._set_over()
        self._streams.call_over(self._stream)

    # The work

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = self._streams.loop.create_task(self._work(work), name="grpc call")
        self._task.add_done_callback(partial(self._worked, work))

    def _worked(self, work: Coroutine[Any, Any, None], task: asyncio.Task[None]) -> None:
        work.close()  # where the task was cancelled before its first step
        if not task.cancelled():
            task.exception()
        if not self._is_ended:  # cancelled, and not by its client
            self.end(grpc.StatusCode.CANCELLED, "the server ended the call")
        self._over()

    async def _work(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except grpc.aio.AbortError:
            pass  # `abort` has ended the call
        except CallFault as fault:
            self.end(fault.code, fault.message)
        except Exception as error:  # noqa: BLE001  # the status table decides
            if self._ends_as_told():
                return
            status = status_of(error, method=self._method.path, peer=self.peer())
            self.end(status.code, status.message, status.trailers)

    async def _answered(self, request: Received) -> None:
        """Work on the call's one message."""
        message = await self._inflated(request)
        parse = self._method.parse
        await self._handled(message if parse is None else parse(_as_bytes(message)))

    async def _handled(self, request: Any) -> None:
        method = self._method
        outcome = method.behavior(request, self)
        if inspect.isasyncgen(outcome):
            async with contextlib.aclosing(outcome) as responses:
                async for response in responses:
                    await self.write(response)
            if not self._ends_as_told():
                self.end(grpc.StatusCode.OK, "")
            return
        response = await outcome
        if self._ends_as_told():
            return
        if method.response_streaming:
            self.end(grpc.StatusCode.OK, "")
            return
        message = response if method.write is None else method.write(response)
        if self._encoding is None:
            self.answer(message)
        else:
            await self._answer_packed(message)

    def _ends_as_told(self) -> bool:
        """End the call with the status that its servicer has set, if it has set one."""
        if self._code in (None, grpc.StatusCode.OK):
            return False
        self.end(self._code, self._details)
        return True

    async def next_message(self) -> Any:
        """The client's next message, parsed.

        Raises:
            StopAsyncIteration: it has sent its last one.
        """
        inbox = self._inbox
        assert inbox is not None  # a stream's call has one
        while not inbox:
            if self._is_complete:
                raise StopAsyncIteration
            self._reading = self._streams.loop.create_future()
            await self._reading
        received = inbox.popleft()
        self._stream.hold(-len(received) - MESSAGE_COST)
        message = await self._unpacked(received) if isinstance(received, messages.Packed) else received
        parse = self._method.parse
        return message if parse is None else parse(_as_bytes(message))

    async def _unpacked(self, received: Received) -> bytes | memoryview:
        try:
            return await self._inflated(received)
        except CallFault as fault:
            # The client's doing, of which servicers know nothing: they are cancelled, as by a deadline.
            self.fail(fault.code, fault.message)
            raise asyncio.CancelledError from None

    async def _inflated(self, received: Received) -> bytes | memoryview:
        """A message that may have come compressed; of those that may become huge, few at a time."""
        if not isinstance(received, messages.Packed):
            return received
        if len(received) <= SMALL_PACKED_BYTES:
            return await off_loop(received.unpacked)
        async with self._streams.inflating:
            return await off_loop(received.unpacked)

    def _wake_reader(self) -> None:
        waiter, self._reading = self._reading, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # What the call is answered

    @property
    def _encoding(self) -> str | None:
        """What messages are compressed with; None for nothing, as nearly always."""
        return self._streams.encoding_for(self.head)

    def answer(self, message: bytes) -> None:
        """End the call with its one message."""
        if self._is_ended:
            return
        if self._encoding is not None:
            self._begin(self._answer_packed(message))
            return
        try:
            messages.check_sent(len(message), self._streams.max_message_bytes)
        except CallFault as fault:
            self.end(fault.code, fault.message)
            return
        trailers = headers.OK_TRAILERS
        if self._trailing:
            trailers = self._block(headers.trailers_block, 0, "", self._trailing)
        stream = self._stream
        if not self._head_sent and self._streams.outbox.answer(stream, headers.INITIAL, message, trailers):
            self._is_ended = True
            self._streams.closed_here(stream)
            self._over()
            return
        self._send(message)
        self._finish(trailers)

    async def _answer_packed(self, message: bytes) -> None:
        await self._write(message)
        self.end(grpc.StatusCode.OK, "")

    def end(
        self, code: grpc.StatusCode, message: str, metadata: Iterable[tuple[str, str | bytes]] = ()
    ) -> None:
        """End the call with a status; what was written before comes first."""
        if not self._is_ended:
            number: int = code.value[0]
            make = headers.trailers_block if self._head_sent else headers.trailers_only_block
            self._finish(self._block(make, number, message, (*self._trailing, *metadata)))

    def _block(self, make: Callable[..., bytes], code: int, message: str, metadata: Metadata) -> bytes:
        try:
            return make(code, message, metadata)
        except ValueError as error:  # a servicer's metadata that no header can hold
            log.error(
                "metadata not sent", method=self._method.path, reason=str(error), who="naiad developers"
            )
            return make(code, message)

    def _finish(self, block: bytes) -> None:
        self._is_ended = True
        self._stream.send_trailers(block)
        self._over()

    def _send(self, message: bytes, *, compressed: bool = False) -> None:
        if not self._head_sent:
            self._send_head()
        self._streams.told()
        self._stream.send_message(message, compressed=compressed)

    def _send_head(self, metadata: Metadata = ()) -> None:
        self._head_sent = True
        encoding, block = self._encoding, headers.INITIAL
        if encoding is not None or metadata:
            block = headers.initial_block(encoding, metadata)
        self._streams.outbox.headers(self._stream.id, block)

    # What servicers call

    async def write(self, response: Any) -> None:
        """Send a message of a stream; returns when the client has room for it.

        Raises:
            CallFault: the call has ended, or the message is larger than messages may be.
        """
        if self._is_ended:
            raise CallFault(grpc.StatusCode.CANCELLED, "the call has ended")
        await self._write(response if self._method.write is None else self._method.write(response))

    async def _write(self, message: bytes) -> None:
        messages.check_sent(len(message), self._streams.max_message_bytes)
        encoding = self._encoding
        packed = None
        if encoding is not None:
            packed = await off_loop(partial(messages.compress, message, encoding))
        if self._is_ended:  # meanwhile
            raise CallFault(grpc.StatusCode.CANCELLED, "the call has ended")
        self._send(message if packed is None else packed, compressed=packed is not None)
        if self._stream.backlog:
            if self._drained is None:
                self._drained = self._streams.loop.create_future()
            await self._drained

    async def send_initial_metadata(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Send the answer's head now."""
        if not self._head_sent and not self._is_ended:
            self._send_head(tuple(metadata))

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: Iterable[tuple[str, str | bytes]] = (),
    ) -> NoReturn:
        """End the call with a status.

        Raises:
            grpc.aio.AbortError: always, which ends the servicer.
        """
        self.end(code, details, trailing_metadata)
        raise grpc.aio.AbortError


def _as_bytes(message: bytes | memoryview) -> bytes:
    """What protobuf parses."""
    return message if isinstance(message, bytes) else bytes(message)
