"""The stub for asyncio: the methods of `VisionServiceStub`, answered here. Made where a loop runs."""

# ruff: noqa: N802, ASYNC109 - the names are the protocol's, and stubs take a timeout; what else is given
# (metadata, which the client has told this stub once for all) is for a network

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
from grpc.aio import Metadata

from naiad_client.triton.calls import CLOSED, AbortedError, LocalContext, rpc_error
from naiad_client.triton.vision import TritonSettings, TritonVision

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

_UNREAD = 16
"""Messages that may lie between the two ends of a stream, each way."""


class AsyncTritonVisionStub:
    """Vision calls on a Triton server; close it when nothing is called any more."""

    def __init__(
        self,
        address: str,
        settings: TritonSettings | None = None,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        options: Sequence[tuple[str, int | str]] = (),
        metadata: Sequence[tuple[str, str | bytes]] = (),
    ) -> None:
        """Create a stub; nothing is sent yet.

        Args:
            address: where Triton's gRPC listens, as gRPC takes it.
            settings: how many calls and threads.
            credentials: TLS; None connects in the clear.
            options: of the channel, beside the defaults.
            metadata: sent with every call to Triton.
        """
        self.vision = TritonVision(
            address, settings or TritonSettings(), credentials=credentials, options=options, metadata=metadata
        )

    async def close(self) -> None:
        """End all calls and threads."""
        await self.vision.close()

    def transports(self) -> dict[str, str]:
        """How tensors go to the server: by shared memory, or by gRPC and why."""
        return dict(self.vision.transports())

    async def Detect(self, request: Any, timeout: float | None = None, **_: Any) -> Any:
        """Find the faces of one image."""
        return await self._unary(self.vision.service.Detect, request, timeout)

    async def Embed(self, request: Any, timeout: float | None = None, **_: Any) -> Any:
        """Turn faces of one image into vectors."""
        return await self._unary(self.vision.service.Embed, request, timeout)

    async def Analyze(self, request: Any, timeout: float | None = None, **_: Any) -> Any:
        """Find the faces of one image and embed each of them."""
        return await self._unary(self.vision.service.Analyze, request, timeout)

    async def Compare(self, request: Any, timeout: float | None = None, **_: Any) -> Any:
        """Say how alike two faces are."""
        return await self._unary(self.vision.service.Compare, request, timeout)

    def StreamDetect(self, timeout: float | None = None, **_: Any) -> LocalStream:
        """Find faces in a stream of frames."""
        return LocalStream(self.vision, self.vision.service.StreamDetect, timeout)

    def StreamEmbed(self, timeout: float | None = None, **_: Any) -> LocalStream:
        """Embed the faces of a stream of frames."""
        return LocalStream(self.vision, self.vision.service.StreamEmbed, timeout)

    def StreamAnalyze(self, timeout: float | None = None, **_: Any) -> LocalStream:
        """Find and embed the faces of a stream of frames."""
        return LocalStream(self.vision, self.vision.service.StreamAnalyze, timeout)

    async def _unary(self, handler: Any, request: Any, timeout: float | None) -> Any:
        async def answer() -> Any:
            self.vision.check_open()
            await self.vision.prepare(request)
            return await handler(request, LocalContext(timeout))

        task = self.vision.begin(self.vision.run(answer), "vision call")
        try:
            async with asyncio.timeout(timeout):
                return await task
        except TimeoutError:
            raise rpc_error(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is not None and caller.cancelling():
                raise
            raise rpc_error(grpc.StatusCode.CANCELLED, CLOSED) from None


class LocalStream:
    """A stream in this process, with the manners of gRPC's `StreamStreamCall`."""

    def __init__(self, vision: TritonVision, handler: Any, timeout: float | None) -> None:
        self._vision = vision
        self._handler = handler
        self._timeout = timeout
        self._requests: asyncio.Queue[Any] = asyncio.Queue(_UNREAD)
        self._responses: asyncio.Queue[Any] = asyncio.Queue(_UNREAD)
        self._end: AbortedError | None = None
        self._callbacks: list[Callable[[Any], None]] = []
        self._over = asyncio.Event()
        self._task = vision.begin(self._run(), "vision stream")
        self._task.add_done_callback(self._ensure_end)

    async def write(self, request: Any) -> None:
        """Send a message; raises asyncio.InvalidStateError if the call is over."""
        putting = asyncio.ensure_future(self._requests.put(request))
        over = asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait((putting, over), return_when=asyncio.FIRST_COMPLETED)
            if self._over.is_set():
                raise asyncio.InvalidStateError("the call is over")
        finally:
            putting.cancel()
            over.cancel()

    async def done_writing(self) -> None:
        """Send no more messages."""
        if not self._over.is_set():
            await self.write(_END)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._read()

    async def _read(self) -> AsyncIterator[Any]:
        while (response := await self._responses.get()) is not _END:
            yield response
        self._responses.put_nowait(_END)
        assert self._end is not None
        if self._end.code is not grpc.StatusCode.OK:
            raise self._end.as_rpc_error()

    def cancel(self) -> bool:
        """End the call now; whether it was at work until now."""
        return self._task.cancel()

    def done(self) -> bool:
        """Whether the call is over."""
        return self._over.is_set()

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call `callback` with this when the call is over."""
        if self._over.is_set():
            callback(self)
        else:
            self._callbacks.append(callback)

    async def code(self) -> grpc.StatusCode:
        """The status code, once the call is over."""
        return (await self._status()).code

    async def details(self) -> str:
        """The status's words, once the call is over."""
        return (await self._status()).details

    async def initial_metadata(self) -> Metadata:
        """None is sent."""
        return Metadata()

    async def trailing_metadata(self) -> Metadata:
        """What came with the status."""
        return Metadata(*(await self._status()).trailers)

    async def _status(self) -> AbortedError:
        if self._end is None:
            await self._over.wait()
        assert self._end is not None
        return self._end

    async def _run(self) -> None:
        end = AbortedError(grpc.StatusCode.OK, "", ())
        try:
            self._vision.check_open()
            async with asyncio.timeout(self._timeout):
                await self._handler(self._messages(), LocalContext(self._timeout, self._responses.put))
        except AbortedError as error:
            end = error
        except TimeoutError:
            end = AbortedError(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", ())
        except asyncio.CancelledError:
            end = AbortedError(grpc.StatusCode.CANCELLED, "Locally cancelled by application!", ())
        self._finish(end)

    def _ensure_end(self, task: asyncio.Task[None]) -> None:
        """Tell of the end where `_run` could not: it was cancelled before it began, or failed itself."""
        if self._over.is_set():
            return
        if task.cancelled():
            self._finish(AbortedError(grpc.StatusCode.CANCELLED, CLOSED, ()))
        else:
            self._finish(AbortedError(grpc.StatusCode.UNKNOWN, f"Unexpected {task.exception()!r}", ()))

    def _finish(self, end: AbortedError) -> None:
        self._end = end
        self._over.set()
        if end.code is grpc.StatusCode.CANCELLED:
            while not self._responses.empty():
                self._responses.get_nowait()
        # Whoever reads slowly must still be told of the end, behind all that was answered.
        self._responses._maxsize = 0  # type: ignore[attr-defined]  # noqa: SLF001
        self._responses.put_nowait(_END)
        for callback in self._callbacks:
            callback(self)

    async def _messages(self) -> AsyncIterator[Any]:
        """The caller's messages; the models of the first one are opened before the handler sees it."""
        is_first = True
        while (message := await self._requests.get()) is not _END:
            if is_first and message.WhichOneof("message") == "options":
                await self._vision.prepare(message.options)
            is_first = False
            yield message


_END: Any = object()
