"""A stream of frames: messages into a ledger, frames to work in turns, results and accounts back.

Without a contract a stream is one of every frame in order, and is told results and errors only. With one it
is told `opened` first, an `account` with everything, `goaway` when the server drains, `closed` last.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from naiad.core.errors import DeadlineExceededError, InternalError, NaiadError, UnavailableError
from naiad.dataplane.frames.fair_share import Seat
from naiad.dataplane.frames.ledger import FrameLedger
from naiad.lifecycle.caller import NOBODY
from naiad.services.calls import SHUTTING_DOWN
from naiad.services.status import code_number, status_of
from naiad.services.stream_messages import (
    account_message,
    closed_message,
    fill_account,
    frame_of,
)
from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from naiad.dataplane.frames.contract import Contract
    from naiad.dataplane.frames.ledger import Entry
    from naiad.dataplane.frames.room import Cost
    from naiad.dataplane.frames.rooms import FrameRooms
    from naiad.lifecycle.caller import Caller
    from naiad.lifecycle.version import ModelHandle
    from naiad.services.calls import Calls
    from naiad.telemetry.streams import ModelStreams

    Frame = Entry[Any, Any]
    Write = Callable[[Any], Awaitable[None]]

RETRY_AFTER_MS = 1_000
"""When clients are told to try again after a goaway: a balancer has heard of the drain by then."""


WITHDRAWN = "the model version that the stream began with has been rolled back: open it anew"
"""Why a stream ends whose contract lets it come again; others go on with the version that answers then."""


class FrameWork(Protocol):
    """What one stream does with its frames. Used on the event loop's thread."""

    response_type: Any
    """The type of the stream's responses."""

    def opened(self, contract: pb.StreamContract) -> pb.StreamOpened:
        """The first message of a stream with a contract, which names the models as of now.

        Raises:
            NaiadError: there is no such model.
        """
        ...

    def acquire(self) -> ModelHandle:
        """A handle on the version that would answer a frame now: the frame takes of its room.

        Raises:
            NaiadError: there is none; frames fail with it.
        """
        ...

    def begin(self, number: int) -> None:
        """The frame of that number is begun with."""
        ...

    async def answer(self, frame: pb.Frame, number: int, deadline_ns: int | None, result: Any) -> Cost | None:
        """Answer a frame: write into `result`, which is empty, and give what it took of the model's room.

        Raises:
            NaiadError: what the frame fails with.
        """
        ...

    def end(self, number: int) -> None:
        """Nothing works on the frame any more, whatever became of it."""
        ...

    @property
    def next_track_id(self) -> int:
        """Where a stream that goes on for this one numbers its tracks from; 0 without tracks."""
        ...

    def close(self, closed: pb.StreamClosed) -> None:
        """Add to the stream's last message what only the work knows."""
        ...


class FrameStream:
    """One stream, from after its options to its end.

    Every task that it starts is its own: however `run` ends, by error, cancellation or the end, all of them
    have ended before it returns. Frames wait undecoded in the ledger until it is the stream's turn at the
    room of the model version that would answer now. Each frame may have another version, which its result
    names: a reload must not wait for hours until a camera is switched off.
    """

    def __init__(
        self,
        requests: AsyncIterator[Any],
        work: FrameWork,
        contract: Contract,
        *,
        opened: pb.StreamOpened | None,
        rooms: FrameRooms,
        calls: Calls,
        caller: Caller = NOBODY,
        statistics: ModelStreams,
        deadline_ns: int | None,
    ) -> None:
        """Prepare a stream.

        Args:
            requests: the client's messages after the options.
            work: what is done with a frame.
            contract: in force.
            opened: what a client is told first that has asked for a contract; None tells it results only.
            rooms: of all model versions.
            calls: when the server drains, no further frame is read.
            caller: whose stream it is; if its version is withdrawn, no further frame is read.
            statistics: counts what becomes of frames.
            deadline_ns: the call's, on the monotonic clock.
        """
        self._requests = requests
        self._work = work
        self._ledger: FrameLedger[Any, Any] = FrameLedger(contract, statistics)
        self._opened = opened
        self._rooms = rooms
        self._calls = calls
        self._caller = caller
        self._withdrawn = asyncio.Event()
        self._statistics = statistics
        self._deadline_ns = deadline_ns
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[Frame, asyncio.Task[tuple[Any, Cost | None]]] = {}
        self._seat: Seat | None = None
        self._readable = asyncio.Event()
        self._readable.set()
        self._news = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<FrameStream {self._ledger!r}>"

    async def run(self, write: Write) -> None:
        """Answer every frame and `write` what the client is told.

        Raises:
            UnavailableError: the server drains; everything that was read is answered before.
        """
        reader = asyncio.create_task(self._read_until_drained(), name="stream reader")
        reader.add_done_callback(self._reader_ended)
        self._statistics.open += 1
        try:
            if self._opened is not None:
                await write(self._response(opened=self._opened))
            await self._write_results(write, reader)
            failure = reader.exception()
            if self._opened is not None and (failure is None or isinstance(failure, UnavailableError)):
                await write(self._response(closed=self._closed()))
            if failure is not None:
                raise failure
        finally:
            self._statistics.open -= 1
            await self._stop(reader)

    # Reading

    async def _read_until_drained(self) -> None:
        reading = asyncio.create_task(self._read(), name="stream read")
        drained = asyncio.create_task(self._calls.draining(), name="stream drain")
        withdrawn = asyncio.create_task(self._withdrawn.wait(), name="stream withdrawal")
        tasks = (reading, drained, withdrawn)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                raise UnavailableError(SHUTTING_DOWN if drained.done() else WITHDRAWN)
            reading.result()  # a stream that broke must not look like one that ended
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            while not self._ledger.may_read:
                self._readable.clear()
                await self._readable.wait()
            try:
                message = await anext(self._requests)
            except StopAsyncIteration:
                return
            self._admit(message)
            del message  # not for as long as the next one takes to come

    def _admit(self, message: Any) -> None:
        frame = message.frame
        self._ledger.admit(
            frame.frame_id, message, time.monotonic_ns(), capture_time_us=frame.capture_time_us
        )
        # The only thing that brings a new time: what is begun with or finished takes one away.
        self._set_timer(self._ledger.due_ns)
        self._changed()

    def _reader_ended(self, reader: asyncio.Task[None]) -> None:
        if not reader.cancelled():
            reader.exception()  # a stream that has ended with an earlier error asks for no later one
        self._news.set()

    # Working

    def _changed(self) -> None:
        """Do what has become possible."""
        if self._is_closed:
            return
        self._want()
        ledger = self._ledger
        if not self._readable.is_set() and ledger.may_read:
            self._readable.set()
        # Not at each change: waking the writer costs as much as all else here.
        if ledger.is_result_ready or (self._opened is not None and ledger.must_tell):
            self._news.set()

    def _want(self) -> None:
        """Ask for a turn if a frame may be begun with."""
        if self._seat is not None and self._seat.is_waiting:
            return  # and chooses the frame, which may be a newer one by then, when its turn comes
        ledger = self._ledger
        while ledger.may_begin:
            try:
                seat = self._seat_now()
            except NaiadError as error:
                entry = ledger.begin(time.monotonic_ns())
                if entry is not None:
                    self._finish(entry, self._failed(entry, error), is_answer=False)
                continue
            seat.wait()
            return

    def _seat_now(self) -> Seat:
        """The stream's place at the share of the version that would answer now."""
        with self._work.acquire() as handle:
            share = self._rooms.share(handle)
        if self._caller.is_withdrawn:
            self._withdrawn.set()
        seat = self._seat
        if seat is None or seat.share is not share:
            if seat is not None:
                seat.leave()
            seat = self._seat = Seat(share, self._take_turn)
        return seat

    def _take_turn(self) -> bool:
        """Begin a frame, now that there is room; False if none may be begun with any more."""
        seat = self._seat
        assert seat is not None  # it is the one that calls
        entry = None if self._is_closed else self._ledger.begin(time.monotonic_ns())
        if entry is not None:
            self._work.begin(entry.number)
            task = self._tasks[entry] = asyncio.create_task(self._answer(entry), name="stream frame")
            task.add_done_callback(partial(self._worked, entry, seat))
        self._changed()
        return entry is not None

    async def _answer(self, entry: Frame) -> tuple[Any, Cost | None]:
        """A frame's response, and what it took; `None` for that where it failed."""
        try:
            deadline_ns = entry.deadline_ns
            if self._deadline_ns is not None:
                deadline_ns = min(self._deadline_ns, deadline_ns or self._deadline_ns)
            response = self._frame_response(entry)
            response.result.SetInParent()
            frame = frame_of(entry.payload)
            cost = await self._work.answer(frame, entry.number, deadline_ns, response.result)
        except Exception as error:  # noqa: BLE001  # in-band: the stream lives on
            return self._failed(entry, error), None
        return response, cost

    def _worked(self, entry: Frame, seat: Seat, task: asyncio.Task[tuple[Any, Cost | None]]) -> None:
        del self._tasks[entry]
        self._work.end(entry.number)
        cost = None
        if not task.cancelled():
            response, cost = task.result()
            if not self._is_closed:
                self._finish(entry, response, is_answer=response.HasField("result"))
        elif not (entry.is_finished or self._is_closed):
            # Neither by its deadline nor by the stream's end, but by what it waited for.
            response = self._failed(entry, InternalError("the work on the frame was cancelled"))
            self._finish(entry, response, is_answer=False)
        seat.done(cost)
        self._changed()

    def _finish(self, entry: Frame, response: Any, *, is_answer: bool) -> None:
        if self._ledger.finish(entry, response, is_answer=is_answer) and is_answer:
            self._statistics.ages.add(time.monotonic_ns() - entry.received_ns)

    def _set_timer(self, due_ns: int | None) -> None:
        """Look again at that time; a timer that comes too early looks in vain, which is seldom."""
        if due_ns is None:
            return
        at_s = self._loop.time() + max(0, due_ns - time.monotonic_ns()) / 1e9
        if self._timer is not None:
            if self._timer.when() <= at_s:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at_s, self._expire)

    def _expire(self) -> None:
        self._timer = None
        for entry in self._ledger.expire(time.monotonic_ns()):
            self._tasks[entry].cancel()
        self._set_timer(self._ledger.due_ns)
        self._changed()

    # Writing

    async def _write_results(self, write: Write, reader: asyncio.Task[None]) -> None:
        """Write results as they come, until there are no more and none can come."""
        ledger = self._ledger
        is_told, is_going = self._opened is not None, False
        while True:
            self._news.clear()
            failure = reader.exception() if reader.done() else None
            if is_told and not is_going and isinstance(failure, UnavailableError):
                is_going = True
                await write(self._response(goaway=self._goaway(failure.message)))
            elif (entry := ledger.take()) is not None:
                await write(self._result(entry))
                del entry  # not for as long as the next one takes
                ledger.written()
                self._changed()
            elif is_told and ledger.must_tell:
                await write(self._response())
                self._changed()
            elif reader.done() and ledger.is_settled:
                return
            else:
                await self._news.wait()

    def _result(self, entry: Frame) -> Any:
        response = entry.result
        if response is None:
            response = self._failed(entry, self._too_late(entry))
        if self._opened is not None:
            fill_account(response.account, self._ledger.tell(), entry)
        return response

    def _too_late(self, entry: Frame) -> DeadlineExceededError:
        limit_ms = (self._ledger.contract.frame_deadline_ns or 0) // 1_000_000
        what = "answered" if entry.begun_ns else "begun with"
        return DeadlineExceededError(
            f"the frame was not {what} within {limit_ms} ms of its arrival (contract.frame_deadline_ms)"
        )

    def _frame_response(self, entry: Frame) -> Any:
        return self._work.response_type(frame_id=entry.frame_id, capture_time_us=entry.capture_time_us)

    def _failed(self, entry: Frame, error: Exception) -> Any:
        status = status_of(error)
        response = self._frame_response(entry)
        response.error.code = code_number(status)
        response.error.message = status.message
        return response

    def _response(self, **outcome: Any) -> Any:
        """A message that answers no frame."""
        return self._work.response_type(account=account_message(self._ledger.tell()), **outcome)

    def _goaway(self, reason: str) -> pb.StreamGoaway:
        return pb.StreamGoaway(
            reason=reason,
            frames_received=self._ledger.received,
            retry_after_ms=RETRY_AFTER_MS,
            next_track_id=self._work.next_track_id,
        )

    def _closed(self) -> pb.StreamClosed:
        closed = closed_message(self._ledger)
        closed.next_track_id = self._work.next_track_id
        self._work.close(closed)
        return closed

    async def _stop(self, reader: asyncio.Task[None]) -> None:
        """End every task and give back what the stream holds."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._seat is not None:
            self._seat.leave()
        self._statistics.abandoned += self._ledger.waiting + self._ledger.at_work
        reader.cancel()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(reader, *tasks, return_exceptions=True)
