"""A stream of frames leaves nothing behind, holds no room for who does not read, and is held back itself."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from naiad.core.errors import InternalError, NotFoundError, UnavailableError
from naiad.dataplane.frames.contract import Contract, FramePolicy
from naiad.dataplane.frames.fair_share import FairShare
from naiad.dataplane.frames.room import Capacity
from naiad.services.calls import Calls
from naiad.services.frame_streams import FrameStream
from naiad.telemetry.streams import ModelStreams
from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from naiad.core.errors import NaiadError


class Client:
    """Sends frames numbered from 1 as the test says, and takes what is written while it reads."""

    def __init__(self, count: int = 0, *, endless: bool = False, error: Exception | None = None) -> None:
        self.taken = 0
        self.written: list[Any] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self._count = count
        self._endless = endless
        self._error = error

    async def messages(self) -> AsyncIterator[Any]:
        for number in range(1, self._count + 1):
            self.taken += 1
            yield pb.StreamDetectRequest(frame=pb.Frame(frame_id=number))
        if self._error is not None:
            raise self._error
        if self._endless:
            await asyncio.Event().wait()

    async def write(self, response: Any) -> None:
        await self.reads.wait()
        self.written.append(response)

    @property
    def answered(self) -> list[int]:
        return [response.frame_id for response in self.written if response.frame_id]


class Work:
    """Frames wait until the test lets them go; those in `refused` find no model."""

    response_type = pb.StreamDetectResponse
    next_track_id = 0

    def __init__(self, *, is_open: bool = True) -> None:
        self.gate = asyncio.Event()
        self.missing: NaiadError | None = None
        self.at_work: set[int] = set()
        self.taken_back: set[int] = set()
        if is_open:
            self.gate.set()

    def opened(self, contract: pb.StreamContract) -> pb.StreamOpened:
        return pb.StreamOpened(contract=contract)

    def acquire(self) -> Any:
        if self.missing is not None:
            raise self.missing
        return contextlib.nullcontext()

    def begin(self, number: int) -> None:
        self.at_work.add(number)

    async def answer(self, frame: pb.Frame, number: int, deadline_ns: int | None, result: Any) -> None:
        await self.gate.wait()
        if frame.frame_id in self.taken_back:
            raise asyncio.CancelledError

    def end(self, number: int) -> None:
        self.at_work.discard(number)

    def close(self, closed: pb.StreamClosed) -> None:
        closed.embedded = 3


class Rooms:
    """One share for all."""

    def __init__(self, room: int = 8) -> None:
        self.only = FairShare(Capacity(room, 1, 0, 1))

    def share(self, handle: Any) -> FairShare:
        return self.only


def stream(
    client: Client,
    work: Work,
    rooms: Rooms,
    contract: Contract | None = None,
    *,
    is_told: bool = True,
    calls: Calls | None = None,
    counted: ModelStreams | None = None,
) -> FrameStream:
    rooms_: Any = rooms
    return FrameStream(
        client.messages(),
        work,
        contract or Contract(4),
        opened=pb.StreamOpened() if is_told else None,
        rooms=rooms_,
        calls=calls or Calls(),
        statistics=counted or ModelStreams(),
        deadline_ns=None,
    )


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


def own_tasks() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def test_a_stream_without_a_contract_is_told_results_and_nothing_else() -> None:
    client = Client(5)
    await stream(client, Work(), Rooms(), is_told=False).run(client.write)
    assert client.answered == [1, 2, 3, 4, 5]
    assert all(response.HasField("result") for response in client.written)
    assert not any(response.HasField("account") for response in client.written)


async def test_results_that_nobody_reads_hold_no_room_and_are_bounded() -> None:
    """The room is one frame: the deaf client's four results wait, and the other's ten frames pass."""
    rooms, work = Rooms(1), Work()
    deaf, other = Client(100), Client(10)
    deaf.reads.clear()
    running = asyncio.ensure_future(stream(deaf, work, rooms).run(deaf.write))
    await settle()
    assert (rooms.only.at_work, deaf.taken) == (0, 4)
    await stream(other, work, rooms).run(other.write)
    assert len(other.answered) == 10
    assert deaf.taken == 4
    deaf.reads.set()
    await running
    assert len(deaf.answered) == 100


async def test_frames_beyond_those_in_flight_are_not_even_read() -> None:
    work, client = Work(is_open=False), Client(100)
    running = asyncio.ensure_future(stream(client, work, Rooms()).run(client.write))
    await settle()
    assert client.taken == 4
    work.gate.set()
    await running
    assert client.written[-1].closed == pb.StreamClosed(frames_received=100, frames_answered=100, embedded=3)


@pytest.mark.parametrize("policy", FramePolicy)
async def test_a_client_that_leaves_leaves_nothing_behind(policy: FramePolicy) -> None:
    """No task, no room, no place in the circle; what it left is counted."""
    rooms, work, counted = Rooms(1), Work(is_open=False), ModelStreams()
    client, waiting = Client(3, endless=True), Client(1, endless=True)
    contract = Contract(4, policy)
    before = own_tasks()
    runs = [
        asyncio.ensure_future(stream(each, work, rooms, contract, counted=counted).run(each.write))
        for each in (client, waiting)
    ]
    await settle()
    assert (rooms.only.at_work, counted.open) == (1, 2)
    for run in runs:
        run.cancel()
    await asyncio.gather(*runs, return_exceptions=True)
    assert rooms.only.is_idle
    assert not work.at_work
    assert own_tasks() == before
    assert counted.open == 0
    assert counted.abandoned + sum(counted.dropped.values()) == 4


async def test_a_stream_that_breaks_answers_what_it_has_read_and_is_not_closed() -> None:
    client = Client(3, error=InternalError("the transport broke"))
    with pytest.raises(InternalError, match="the transport broke"):
        await stream(client, Work(), Rooms()).run(client.write)
    assert client.answered == [1, 2, 3]
    assert not client.written[-1].HasField("closed")


async def test_frames_fail_while_there_is_no_model_and_go_on_when_there_is() -> None:
    work, client, calls = Work(), Client(2, endless=True), Calls()
    work.missing = NotFoundError("no detector is ready on this server")
    running = asyncio.ensure_future(stream(client, work, Rooms(), calls=calls).run(client.write))
    await settle()
    assert [response.error.code for response in client.written if response.frame_id] == [5, 5]
    assert "no detector" in client.written[1].error.message
    calls.begin_drain()
    with pytest.raises(UnavailableError):
        await running
    [goaway, closed] = client.written[-2:]
    assert (goaway.goaway.frames_received, closed.closed.frames_failed) == (2, 2)


async def test_a_frame_whose_work_is_taken_back_below_it_fails_and_the_next_is_answered() -> None:
    """It does not stay at work for ever, with every result behind it waiting."""
    work, client = Work(), Client(2)
    work.taken_back = {1}
    async with asyncio.timeout(5):
        await stream(client, work, Rooms(1)).run(client.write)
    assert client.answered == [1, 2]
    failed, answered, closed = client.written[-3:]
    assert failed.error.message == "the work on the frame was cancelled"
    assert answered.HasField("result")
    assert (closed.closed.frames_failed, closed.closed.frames_answered) == (1, 1)
