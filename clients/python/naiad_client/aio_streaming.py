"""A stream of the asyncio client as a generator: a task sends what an iterable gives."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncIterable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

    from naiad_client.aio_session import StreamSession
    from naiad_client.images import ImageLike
    from naiad_client.options import FaceLike
    from naiad_client.results import FrameResult, ResultT

ItemT = TypeVar("ItemT")


async def run_stream(
    open_session: Callable[[], StreamSession[ResultT]],
    items: AsyncIterable[ItemT] | Iterable[ItemT],
    pair: Callable[[ItemT], tuple[ImageLike, FaceLike]],
) -> AsyncGenerator[FrameResult[ResultT], None]:
    """Send `items` and yield their results in order.

    A task pulls from `items`, so a slow source never delays results that are there. Closing the generator
    cancels the stream and the task and waits for both; use `contextlib.aclosing` to do so at a known place.

    Args:
        open_session: opens the stream.
        items: what to send, possibly without end. A plain iterable is pulled in threads.
        pair: the picture and faces of an item.

    Raises:
        NaiadError: the stream itself failed. A failed frame is a result with an `error`.
        Exception: whatever `items` raised, after the results of all earlier frames.
    """
    session = open_session()
    results = aiter(session)
    feed = asyncio.create_task(_feed(session, items, pair), name="naiad stream source")
    try:
        async for result in results:
            yield result
        await feed  # raises what the source raised
    finally:
        feed.cancel()
        await session.cancel()
        await asyncio.gather(feed, return_exceptions=True)


async def _feed(
    session: StreamSession[Any],
    items: AsyncIterable[ItemT] | Iterable[ItemT],
    pair: Callable[[ItemT], tuple[ImageLike, FaceLike]],
) -> None:
    """Send each item as there is room."""
    pull = _puller(items)

    async def pull_pair() -> tuple[ImageLike, FaceLike]:
        return pair(await pull())

    try:
        while True:
            await session.send_next(pull_pair)
    except _SourceEnd:
        pass
    finally:
        session.finish()


class _SourceEnd(Exception):  # noqa: N818 - no error, and a coroutine cannot raise StopIteration
    """The source has no more items."""


async def _in_own_thread(work: Callable[[], Any]) -> Any:
    """What `work` returns, from a thread of its own.

    A source may block for ever, as a camera does that was pulled out. One of `asyncio.to_thread`'s few
    threads would be missing then wherever else they are used, and the program would wait for it at its end.
    """
    told: concurrent.futures.Future[Any] = concurrent.futures.Future()
    told.set_running_or_notify_cancel()

    def run() -> None:
        try:
            told.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the item is awaited
            told.set_exception(error)

    threading.Thread(target=run, name="naiad stream source", daemon=True).start()
    return await asyncio.wrap_future(told)


def _puller(items: AsyncIterable[ItemT] | Iterable[ItemT]) -> Callable[[], Awaitable[ItemT]]:
    """How to get the next item; it raises _SourceEnd at the end.

    A plain iterable may block (a camera), so it is pulled where blocking stops nobody.
    """
    end = object()
    if isinstance(items, AsyncIterable):
        asynchronous = aiter(items)
        fetch = partial(anext, asynchronous, end)
    else:
        iterator = iter(items)
        fetch = partial(_in_own_thread, partial(next, iterator, end))

    async def pull() -> ItemT:
        item = await fetch()
        if item is end:
            raise _SourceEnd
        return cast("ItemT", item)

    return pull
