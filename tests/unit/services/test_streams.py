"""Streams answer in order, hold back at their limit, and leave no task behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from naiad.services.calls import Calls
from naiad.services.streams import OrderedStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


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


async def test_answers_come_in_the_order_of_the_messages_whatever_finishes_first() -> None:
    gates = [asyncio.Event() for _ in range(3)]

    async def work(number: int) -> int:
        await gates[number].wait()
        return number

    stream = OrderedStream(Source(3).__aiter__(), work, limit=3, calls=Calls())
    for gate in reversed(gates):
        gate.set()
    assert [answer async for answer in stream.responses()] == [0, 1, 2]


async def test_at_the_limit_nothing_more_is_read() -> None:
    source, gate = Source(100), asyncio.Event()

    async def work(number: int) -> int:
        await gate.wait()
        return number

    stream = OrderedStream(source.__aiter__(), work, limit=4, calls=Calls())
    answers = stream.responses()
    first = asyncio.ensure_future(anext(answers))
    await settle()
    assert source.taken == 5  # four at work and one in hand
    gate.set()
    assert await first == 0
    assert [answer async for answer in answers] == list(range(1, 100))


async def test_a_consumer_that_leaves_cancels_the_work_and_leaves_no_task() -> None:
    cancelled = 0

    async def work(number: int) -> int:
        nonlocal cancelled
        if number == 0:
            return 0
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return number

    answers = OrderedStream(Source(3, endless=True).__aiter__(), work, limit=8, calls=Calls()).responses()
    assert await anext(answers) == 0
    await settle()
    await answers.aclose()  # type: ignore[attr-defined]  # responses() is an async generator
    assert cancelled == 2
    assert own_tasks() == set()


async def test_draining_answers_what_was_read_and_ends() -> None:
    calls, gate = Calls(), asyncio.Event()

    async def work(number: int) -> int:
        await gate.wait()
        return number

    stream = OrderedStream(Source(2, endless=True).__aiter__(), work, limit=8, calls=calls)
    collecting = asyncio.ensure_future(_collect(stream))
    await settle()
    calls.begin_drain()
    await settle()
    assert not collecting.done()
    gate.set()
    assert await collecting == [0, 1]
    assert own_tasks() == set()


async def _collect(stream: OrderedStream[int, int]) -> list[int]:
    return [answer async for answer in stream.responses()]


async def test_a_stream_that_breaks_does_not_look_like_one_that_ended() -> None:
    async def work(number: int) -> int:
        return number

    stream = OrderedStream(Source(1, error=ConnectionError("gone")).__aiter__(), work, limit=8, calls=Calls())
    with pytest.raises(ConnectionError):
        await _collect(stream)
