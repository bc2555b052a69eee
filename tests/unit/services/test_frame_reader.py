"""A stream is read as far as its ledger lets it, and no further once somebody wants it to end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from naiad.core.errors import UnavailableError
from naiad.dataplane.frames.contract import Contract
from naiad.dataplane.frames.ledger import FrameLedger
from naiad.services.calls import SHUTTING_DOWN, Calls
from naiad.services.frame_reader import WITHDRAWN, FrameReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Stream:
    """Numbers as messages, for ever or until `error`; admitted as frames."""

    def __init__(self, limit: int, error: Exception | None = None, count: int = 1_000_000) -> None:
        self.calls = Calls()
        self.ledger: FrameLedger[Any, Any] = FrameLedger(Contract(limit))
        self.reader = FrameReader(self._messages(error, count), self.ledger, self.calls, admit=self._admit)

    async def _messages(self, error: Exception | None, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number
        if error is not None:
            raise error

    def _admit(self, message: int) -> None:
        self.ledger.admit(message, message, 0)

    def answer_one(self) -> None:
        entry = self.ledger.begin(0)
        assert entry is not None
        self.ledger.finish(entry, "a result", is_answer=True)
        self.ledger.take()
        self.ledger.written()


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def test_it_reads_as_far_as_the_ledger_lets_it_and_on_when_it_is_told() -> None:
    stream = Stream(3)
    running = asyncio.create_task(stream.reader.run())
    await settle()
    assert stream.ledger.received == 3
    stream.reader.go_on()
    await settle()
    assert stream.ledger.received == 3, "there is still no room"
    stream.answer_one()
    stream.reader.go_on()
    await settle()
    assert stream.ledger.received == 4
    stream.reader.withdraw()
    with pytest.raises(UnavailableError):
        await running


@pytest.mark.parametrize("is_drained", [True, False])
async def test_a_drain_and_a_withdrawn_version_end_it_each_with_its_reason(is_drained: bool) -> None:
    stream = Stream(3)
    running = asyncio.create_task(stream.reader.run())
    await settle()
    if is_drained:
        stream.calls.begin_drain()
    else:
        stream.reader.withdraw()
    with pytest.raises(UnavailableError) as raised:
        await running
    assert raised.value.message == (SHUTTING_DOWN if is_drained else WITHDRAWN)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_clients_end_is_an_end_and_a_broken_stream_is_none() -> None:
    ended = Stream(3, count=2)
    await ended.reader.run()
    assert ended.ledger.received == 2
    with pytest.raises(ConnectionError):
        await Stream(3, ConnectionError("gone"), count=1).reader.run()
    assert asyncio.all_tasks() == {asyncio.current_task()}
