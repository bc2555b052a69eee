"""Runs one stream of the asyncio client: a bounded feed on one side, ordered results on the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import grpc

from naiad_client.base import FrameOrder
from naiad_client.errors import from_rpc, from_status
from naiad_client.images import is_path

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable

    from naiad_client.messages import ItemT, RequestT, ResponseT, StreamMessages
    from naiad_client.results import FrameResult, ResultT

ReturnT = TypeVar("ReturnT")


async def run_stream(
    call: Callable[[], grpc.aio.StreamStreamCall[RequestT, ResponseT]],
    messages: StreamMessages[ItemT, RequestT, ResponseT, ResultT],
    items: AsyncIterable[ItemT] | Iterable[ItemT],
    max_in_flight: int,
) -> AsyncGenerator[FrameResult[ResultT], None]:
    """Send `items` and yield their results in order.

    A task pulls from `items`, so a slow source never delays results that are there. Closing the generator
    cancels the call and the task and waits for both; use `contextlib.aclosing` to do so at a known place.

    Args:
        call: starts the RPC.
        messages: how this kind of stream speaks.
        items: what to send, possibly without end. A plain iterable is pulled in a worker thread.
        max_in_flight: most items taken from `items` whose results have not been received.

    Raises:
        NaiadError: the stream itself failed. A failed frame is a result with an `error`.
        Exception: whatever `items` raised, after the results of all earlier frames.
    """
    order = FrameOrder()
    slots = asyncio.Semaphore(max_in_flight)
    responses = call()
    status = _Status(responses)
    feed = asyncio.create_task(_feed(responses, messages, items, slots, order))
    try:
        try:
            async for response in responses:
                result = messages.parse(response)
                order.answered(result.frame_id)
                slots.release()
                yield result
        except grpc.RpcError as error:
            await status.raise_for(error)
        order.ended()
        await feed  # raises what the source raised
    finally:
        responses.cancel()
        feed.cancel()
        await asyncio.gather(feed, return_exceptions=True)


class _Status:
    """The status that ended a call.

    grpc.aio itself may forget it (grpc/grpc#36066): a write that fails because the call has ended puts
    "Internal error from Core" in the place of what the server said, sooner or later than it arrives.
    """

    _MASK = (grpc.StatusCode.INTERNAL, "Internal error from Core")
    _LIMIT_S = 1.0

    def __init__(self, call: grpc.aio.Call) -> None:
        self._known: asyncio.Future[tuple[grpc.StatusCode, str]] = asyncio.get_running_loop().create_future()
        call.add_done_callback(self._note)

    def _note(self, call: Any) -> None:
        """Keep the call's present status; called each time that it is set."""
        status = (_returned(call.code()), _returned(call.details()) or "")
        if status != self._MASK and not self._known.done():
            self._known.set_result(status)

    async def raise_for(self, error: grpc.RpcError) -> None:
        """Raise the error for the status, or for `error` where the server said nothing; none if it was OK."""
        with contextlib.suppress(TimeoutError):
            code, details = await asyncio.wait_for(self._known, self._LIMIT_S)
            if code is grpc.StatusCode.OK:
                return
            raise from_status(code, details) from error
        raise from_rpc(error) from error


def _returned(coroutine: Coroutine[Any, Any, ReturnT]) -> ReturnT:
    """What a coroutine returns that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast("ReturnT", stop.value)
    coroutine.close()
    raise RuntimeError("the status of an ended call is not there yet")


async def _feed(
    call: grpc.aio.StreamStreamCall[RequestT, ResponseT],
    messages: StreamMessages[ItemT, RequestT, ResponseT, ResultT],
    items: AsyncIterable[ItemT] | Iterable[ItemT],
    slots: asyncio.Semaphore,
    order: FrameOrder,
) -> None:
    """Write the opening message, then a frame for each item as slots come free."""
    pull = _puller(items)
    try:
        sending = await _write(call, messages.opening)
        while sending and await slots.acquire():
            try:
                item = await pull()
            except StopAsyncIteration:
                order.all_sent = True
                return
            request = await _frame(messages, order.sent, item)
            order.sent += 1
            sending = await _write(call, request)
    except Exception:
        order.all_sent = True  # the source failed, or gave what is no picture: earlier frames are answered
        raise
    finally:
        with contextlib.suppress(grpc.aio.InternalError):
            await call.done_writing()


async def _write(call: grpc.aio.StreamStreamCall[RequestT, ResponseT], request: RequestT) -> bool:
    """Write a message; False if the call is over, and whoever reads its responses learns why."""
    try:
        await call.write(request)
    except (grpc.RpcError, asyncio.InvalidStateError):
        return False
    return True


async def _frame(
    messages: StreamMessages[ItemT, RequestT, ResponseT, ResultT], frame_id: int, item: ItemT
) -> RequestT:
    """The item's message; a file is read in a worker thread."""
    if is_path(messages.image(item)):
        return await asyncio.to_thread(messages.frame, frame_id, item)
    return messages.frame(frame_id, item)


def _puller(items: AsyncIterable[ItemT] | Iterable[ItemT]) -> Callable[[], Awaitable[ItemT]]:
    """How to get the next item; it raises StopAsyncIteration at the end.

    A plain iterable may block (a camera), so it is pulled where blocking stops nobody.
    """
    if isinstance(items, AsyncIterable):
        return aiter(items).__anext__
    iterator = iter(items)
    end = object()

    async def pull() -> ItemT:
        item = await asyncio.to_thread(next, iterator, end)
        if item is end:
            raise StopAsyncIteration
        return cast("ItemT", item)

    return pull
