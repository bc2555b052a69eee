"""Bidirectional streams: a bounded number of messages at work, answers in the order of the messages."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias, TypeVar

from naiad.core.errors import UnavailableError
from naiad.services.calls import SHUTTING_DOWN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from naiad.services.calls import Calls

Request = TypeVar("Request")
Response = TypeVar("Response")


class Ready(NamedTuple, Generic[Response]):
    """An answer that is there already."""

    response: Response


Work: TypeAlias = "Coroutine[Any, Any, Response] | asyncio.Task[Response] | Ready[Response]"
"""How a message is answered: by a task that the stream makes of it, by one that has begun, or at once."""


class OrderedStream(Generic[Request, Response]):
    """Works on up to `limit` messages of one stream at once and answers in their order.

    At the limit the stream is read no further, so the transport's flow control holds the client back.
    Every task that it starts is its own: however `run` ends, by error, cancellation or the end, all of
    them have ended before it returns.
    """

    def __init__(
        self,
        requests: AsyncIterator[Request],
        work: Callable[[Request], Work[Response]],
        *,
        limit: int,
        calls: Calls,
    ) -> None:
        """Prepare a stream.

        Args:
            requests: the client's messages.
            work: answers one message, at once or, as a task that is the stream's from then on, when it can;
                faults are answers of their own, and what the task raises ends the stream when it is that
                message's turn.
            limit: how many messages are worked on at once.
            calls: when the server drains, no further message is read.
        """
        self._requests = requests
        self._work = work
        self._calls = calls
        self._slots = asyncio.Semaphore(limit)
        self._answers: asyncio.Queue[asyncio.Task[Response] | Ready[Response] | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[Response]] = set()

    async def run(self, write: Callable[[Response], Awaitable[None]]) -> None:
        """Answer every message and `write` the answers, in the order of the messages.

        Raises:
            UnavailableError: the server drains; everything that was read is answered before.
        """
        reader = asyncio.create_task(self._read_until_drained(), name="stream reader")
        try:
            while (answer := await self._answers.get()) is not None:
                await write(answer.response if isinstance(answer, Ready) else await answer)
                del answer  # not for as long as the next one takes
                self._slots.release()
            await reader
        finally:
            reader.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(reader, *self._tasks, return_exceptions=True)

    async def _read_until_drained(self) -> None:
        reading = asyncio.create_task(self._read(), name="stream read")
        drained = asyncio.create_task(self._calls.draining(), name="stream drain")
        try:
            await asyncio.wait((reading, drained), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                raise UnavailableError(SHUTTING_DOWN)
            reading.result()  # a stream that broke must not look like one that ended
        finally:
            drained.cancel()
            reading.cancel()
            await asyncio.gather(reading, drained, return_exceptions=True)
            self._answers.put_nowait(None)

    async def _read(self) -> None:
        while True:
            # The slot first: a message that has been read is always answered, also when the server drains.
            await self._slots.acquire()
            try:
                request = await anext(self._requests)
            except StopAsyncIteration:
                return
            self._answers.put_nowait(self._begun(request))
            del request  # not for as long as the next one takes to come

    def _begun(self, request: Request) -> asyncio.Task[Response] | Ready[Response]:
        work = self._work(request)
        if isinstance(work, Ready):
            return work
        task = work if isinstance(work, asyncio.Task) else asyncio.create_task(work, name="stream message")
        self._tasks.add(task)
        task.add_done_callback(self._worked)
        return task

    def _worked(self, task: asyncio.Task[Response]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # a stream that has ended with an earlier error asks for no later one
