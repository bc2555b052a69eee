"""An open stream of the asyncio client: frames in, results out, from any tasks of one loop."""

# ruff: noqa: ASYNC109 - a timeout here is a part of the interface that both clients share

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import grpc

from naiad_client.base_session import CLOSE_TIMEOUT_S, BaseSession, late, now_us
from naiad_client.errors import NaiadError, from_rpc, from_status, pushback_ms
from naiad_client.images import is_path
from naiad_client.results import FrameResult, ResultT
from naiad_client.stream_core import Mark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
    from types import TracebackType

    from naiad_client.base_session import FrameSource
    from naiad_client.images import ImageLike
    from naiad_client.options import FaceLike
    from naiad_client.stream_core import StreamCore

ValueT = TypeVar("ValueT")


class StreamSession(BaseSession[ResultT]):
    """As `naiad_client.StreamSession`, awaited; made by `aio.Client.open_stream`. Use it in `async with`."""

    def __init__(self, core: StreamCore[ResultT], start: Callable[[float | None], Any]) -> None:
        """Open the stream.

        Args:
            core: the stream's state.
            start: makes a call that may take so many seconds.
        """
        super().__init__(core)
        self._start = start
        self._waiting: list[asyncio.Future[None]] = []
        self._task = asyncio.create_task(self._run(), name="naiad stream")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the stream; at once, if an error is on its way."""
        if kind is None:
            try:
                await self.close()
            except asyncio.CancelledError:  # whoever ends the wait wants no stream that goes on
                await self.cancel()
                raise
        else:
            await self.cancel()

    async def send(
        self,
        frame: FrameSource,
        faces: FaceLike = None,
        *,
        frame_id: int | None = None,
        capture_time_us: int | None = None,
        timeout: float | None = None,
    ) -> None:
        """Send a frame, as soon as the server has room for it; as `naiad_client.StreamSession.send`."""
        taken_us = now_us(capture_time_us)
        try:
            async with asyncio.timeout(timeout):
                await self._until(self._reserve)
        except TimeoutError:
            raise late("no room for a frame", timeout) from None
        await self._send_reserved(self._made(frame, faces, taken_us), frame_id)

    async def try_send(
        self,
        frame: FrameSource,
        faces: FaceLike = None,
        *,
        frame_id: int | None = None,
        capture_time_us: int | None = None,
    ) -> bool:
        """Send a frame if there is room for it now; as `naiad_client.StreamSession.try_send`."""
        taken_us = now_us(capture_time_us)
        if not self._core.reserve():
            self._core.skip()
            return False
        await self._send_reserved(self._made(frame, faces, taken_us), frame_id)
        return True

    async def send_next(self, pull: Callable[[], Awaitable[tuple[ImageLike, FaceLike]]]) -> None:
        """Send the picture and faces that `pull` returns, called once there is room; errors as of both."""
        await self._until(self._reserve)

        async def made() -> Any:
            image, faces = await pull()
            return await self._made(image, faces, now_us(None))

        await self._send_reserved(made(), None)

    def __aiter__(self) -> AsyncIterator[FrameResult[ResultT]]:
        """The results, each as soon as it is there, until the stream is over; errors as in `ready`."""
        self._taker = self._whoever()
        return self._results()

    def ready(self) -> list[FrameResult[ResultT]]:
        """The results that are there now; errors as in `naiad_client.StreamSession.ready`."""
        taken = self._take_now()
        self._wake()
        return taken

    def finish(self) -> None:
        """Send no more frames; the results of those that were sent can still be taken. Waits for nothing."""
        self._core.finish()
        self._wake()

    async def close(self, timeout: float = CLOSE_TIMEOUT_S) -> None:
        """Send no more frames and wait until all are answered; as `naiad_client.StreamSession.close`."""
        self.finish()
        await asyncio.wait([self._task], timeout=timeout)
        if not self._task.done():
            await self.cancel()
            raise late("the stream was not answered for", timeout)
        self._core.raise_untold()

    async def cancel(self) -> None:
        """End the stream at once; frames in flight are lost, results that were not taken are thrown away."""
        self._core.cancel()
        self._wake()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _whoever(self) -> object:
        return asyncio.current_task()

    async def _results(self) -> AsyncIterator[FrameResult[ResultT]]:
        while not isinstance(result := await self._until(self._core.take), Mark):
            yield result
            self._taker = self._whoever()

    async def _made(self, frame: FrameSource, faces: FaceLike, capture_time_us: int) -> Any:
        """A frame's message; a file is read where it holds up nobody."""
        if is_path(frame):
            return await asyncio.to_thread(self._message, frame, faces, capture_time_us)
        return self._message(frame, faces, capture_time_us)

    async def _send_reserved(self, message: Awaitable[Any], frame_id: int | None) -> None:
        try:
            self._core.accept(frame_id, await message)
        except BaseException:
            self._core.unreserve()
            raise
        finally:
            self._wake()

    async def _until(self, ask: Callable[[], ValueT]) -> ValueT:
        """What `ask` returns once that is something else than WAIT."""
        while (value := ask()) is Mark.WAIT:
            await self._change()
        self._wake()  # a result that was taken makes room
        return value

    async def _change(self, timeout: float | None = None) -> None:
        """Wait until something has changed, or for so many seconds."""
        changed = asyncio.get_running_loop().create_future()
        self._waiting.append(changed)
        if timeout is None:
            await changed
        else:
            await asyncio.wait([changed], timeout=timeout)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for changed in waiting:
            if not changed.done():
                changed.set_result(None)

    # --- the stream's own task ------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Call, read and call again until the stream is over."""
        try:
            while await self._is_due():
                number = self._core.begin_call()
                self._wake()  # there may be room now
                error = await self._call(number)
                self._core.ended(error, time.monotonic())
                self._wake()
        except Exception as error:  # noqa: BLE001 - raised where results are taken; here nobody would see it
            self._core.fail(error)
        finally:
            self._core.cut()  # of use only where this task is cancelled, by the channel's end or the loop's
            self._wake()

    async def _is_due(self) -> bool:
        """Wait until another call is to be opened; False if none is."""
        while not isinstance(wait_s := self._core.next_call_s(time.monotonic()), Mark):
            if wait_s <= 0:
                return True
            await self._change(wait_s)
        return False

    async def _call(self, number: int) -> NaiadError | None:
        """Make one call, write its requests, take in its responses; returns how it ended."""
        call = self._start(self._core.left_s(time.monotonic()))
        status = _Status(call)
        writer = asyncio.create_task(self._write(call, number), name="naiad stream writer")
        try:
            async for response in call:
                self._core.received(response)
                self._wake()
        except grpc.RpcError as error:
            return await status.error(error)
        finally:
            call.cancel()
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return None

    async def _write(self, call: Any, number: int) -> None:
        """One call's messages, as they come."""
        while (message := self._core.next_write(number)) is not Mark.END:
            if message is Mark.WAIT:
                await self._change()
                continue
            try:
                await call.write(message)
            except (grpc.RpcError, asyncio.InvalidStateError):
                return  # the call is over, and whoever reads its responses learns why
        with contextlib.suppress(grpc.aio.InternalError, grpc.RpcError, asyncio.InvalidStateError):
            await call.done_writing()


class _Status:
    """The status that ended a call.

    grpc.aio itself may forget it (grpc/grpc#36066): a write that fails because the call has ended puts
    "Internal error from Core" in the place of what the server said, sooner or later than it arrives.
    """

    _MASK = (grpc.StatusCode.INTERNAL, "Internal error from Core")
    _LIMIT_S = 1.0

    def __init__(self, call: grpc.aio.Call) -> None:
        self._known: asyncio.Future[NaiadError | None] = asyncio.get_running_loop().create_future()
        call.add_done_callback(self._note)

    def _note(self, call: Any) -> None:
        """Keep the call's present status; called each time that it is set."""
        code, details = _returned(call.code()), _returned(call.details()) or ""
        if (code, details) == self._MASK or self._known.done():
            return
        trailers = pushback_ms(_returned(call.trailing_metadata()))
        self._known.set_result(None if code is grpc.StatusCode.OK else from_status(code, details, trailers))

    async def error(self, error: grpc.RpcError) -> NaiadError | None:
        """The error for the status, or for `error` where the server said nothing; None if it was OK."""
        if not self._known.done() and (error.code(), error.details()) != self._MASK:
            return from_rpc(error)
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._known, self._LIMIT_S)
        return from_rpc(error)


def _returned(coroutine: Coroutine[Any, Any, ValueT]) -> ValueT:
    """What a coroutine returns that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast("ValueT", stop.value)
    coroutine.close()
    raise RuntimeError("the status of an ended call is not there yet")
