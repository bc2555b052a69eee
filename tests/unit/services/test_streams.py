"""Streams answer in order, hold back at their limit, and leave no task behind."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from naiad.core.errors import InternalError, UnavailableError
from naiad.services.calls import Calls
from naiad.services.streams import OrderedStream, Ready

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine


class Source:
    """Messages that count how many were taken."""

    def __init__(self, count: int, *, endless: bool = False, error: Exception | None = None) -> None:
        self.taken = 0
        self._count = count
        self._endless = endless
        self._error = error

    async def __aiter__(self) -> AsyncIterator[int]:
        for number in range(self._count):
            self.taken += 1
            yield number
        if self._error:
            raise self._error
        if self._endless:
            await asyncio.Event().wait()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def own_tasks() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


class Written:
    """What a stream wrote; `blocked` holds every write until it is set."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, answer: int) -> None:
        await self.open.wait()
        self.answers.append(answer)


async def echo(number: int) -> int:
    return number


async def test_answers_come_in_the_order_of_the_messages_whatever_finishes_first() -> None:
    gates = [asyncio.Event() for _ in range(3)]
    written = Written()

    async def work(number: int) -> int:
        await gates[number].wait()
        return number

    stream = OrderedStream(Source(3).__aiter__(), work, limit=3, calls=Calls())
    running = asyncio.ensure_future(stream.run(written))
    for gate in reversed(gates):
        await settle()
        assert written.answers == []
        gate.set()
    await running
    assert written.answers == [0, 1, 2]


async def test_at_the_limit_nothing_more_is_read() -> None:
    source, gate, written = Source(100), asyncio.Event(), Written()

    async def work(number: int) -> int:
        await gate.wait()
        return number

    running = asyncio.ensure_future(
        OrderedStream(source.__aiter__(), work, limit=4, calls=Calls()).run(written)
    )
    await settle()
    assert source.taken == 4
    gate.set()
    await running
    assert written.answers == list(range(100))


async def test_a_client_that_does_not_read_is_not_read_from_either() -> None:
    """Answers that cannot be written keep their slots, so the limit bounds what lies in memory."""
    source, written = Source(100), Written()
    written.open.clear()
    running = asyncio.ensure_future(
        OrderedStream(source.__aiter__(), echo, limit=4, calls=Calls()).run(written)
    )
    await settle()
    assert source.taken == 4
    written.open.set()
    await running
    assert written.answers == list(range(100))


@pytest.mark.parametrize("blocked", ["working", "writing"])
async def test_a_stream_that_is_cancelled_leaves_no_task_wherever_it_stands(blocked: str) -> None:
    written, cancelled = Written(), 0

    async def work(number: int) -> int:
        nonlocal cancelled
        if number == 0 and blocked == "writing":
            written.open.clear()
            return 0
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return number

    stream = OrderedStream(Source(3, endless=True).__aiter__(), work, limit=8, calls=Calls())
    running = asyncio.ensure_future(stream.run(written))
    await settle()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert cancelled == (2 if blocked == "writing" else 3)
    assert own_tasks() == set()


@pytest.mark.parametrize("limit", [2, 8])
async def test_draining_answers_what_was_read_and_then_says_that_the_server_ends(limit: int) -> None:
    calls, gate, written = Calls(), asyncio.Event(), Written()
    source = Source(5, endless=True)

    async def work(number: int) -> int:
        await gate.wait()
        return number

    stream = OrderedStream(source.__aiter__(), work, limit=limit, calls=calls)
    running = asyncio.ensure_future(stream.run(written))
    await settle()
    read = source.taken
    calls.begin_drain()
    await settle()
    assert not running.done()
    gate.set()
    with pytest.raises(UnavailableError, match="shutting down"):
        await running
    assert written.answers == list(range(read))
    assert own_tasks() == set()


async def test_a_stream_that_breaks_does_not_look_like_one_that_ended() -> None:
    source = Source(1, error=ConnectionError("gone"))
    with pytest.raises(ConnectionError):
        await OrderedStream(source.__aiter__(), echo, limit=8, calls=Calls()).run(Written())


async def test_errors_that_an_ended_stream_never_asked_for_are_not_reported_as_forgotten() -> None:
    """The first one ends the stream; asyncio would print each later one with its traceback."""
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))

    async def fail(number: int) -> int:
        raise InternalError(str(number))

    stream = OrderedStream(aiter(Source(3)), fail, limit=3, calls=Calls())
    with pytest.raises(InternalError, match="0"):
        await stream.run(Written())
    del stream
    gc.collect()
    assert reported == []


class Message:
    """Something that can be large."""


async def test_a_stream_that_is_idle_keeps_neither_its_last_message_nor_its_answer() -> None:
    messages = asyncio.Queue[Message]()
    kept = weakref.WeakSet[Message]()

    class Waiting:
        async def __anext__(self) -> Message:
            return await messages.get()

        def __aiter__(self) -> Waiting:
            return self

    async def answer_later(_: Message) -> Message:
        kept.add(answer := Message())
        return answer

    def work(message: Message) -> Ready[Message] | Coroutine[Any, Any, Message]:
        kept.add(message)
        if len(kept) > 1:
            return answer_later(message)
        kept.add(answer := Message())
        return Ready(answer)

    async def write(_: Message) -> None:
        """Whoever reads lets go of it."""

    stream = OrderedStream(Waiting(), work, limit=8, calls=Calls())
    running = asyncio.ensure_future(stream.run(write))
    for _ in range(2):
        messages.put_nowait(Message())
        await settle()
        gc.collect()
        assert len(kept) == 0
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
