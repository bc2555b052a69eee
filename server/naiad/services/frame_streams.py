"""A stream of frames: messages into a ledger, frames to work in turns, results and accounts back."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from naiad.core.errors import InternalError, NaiadError, UnavailableError
from naiad.dataplane.frames.fair_share import Seat
from naiad.dataplane.frames.ledger import FrameLedger
from naiad.lifecycle.caller import NOBODY
from naiad.services.frame_reader import FrameReader
from naiad.services.frame_replies import FrameReplies
from naiad.services.frame_work import FrameWork
from naiad.services.stream_messages import frame_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from naiad.dataplane.frames.contract import Contract
    from naiad.dataplane.frames.ledger import Entry
    from naiad.dataplane.frames.room import Cost
    from naiad.dataplane.frames.rooms import FrameRooms
    from naiad.lifecycle.caller import Caller
    from naiad.services.calls import Calls
    from naiad.telemetry.streams import ModelStreams
    from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

    Frame = Entry[Any, Any]
    Write = Callable[[Any], Awaitable[None]]

__all__ = ["FrameStream", "FrameWork"]


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
        self._work = work
        self._ledger: FrameLedger[Any, Any] = FrameLedger(contract, statistics)
        self._reader = FrameReader(requests, self._ledger, calls, admit=self._admit)
        self._replies = FrameReplies(work, self._ledger, is_told=opened is not None)
        self._opened = opened
        self._rooms = rooms
        self._caller = caller
        self._statistics = statistics
        self._deadline_ns = deadline_ns
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[Frame, asyncio.Task[tuple[Any, Cost | None]]] = {}
        self._seat: Seat | None = None
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
        reader = asyncio.create_task(self._reader.run(), name="stream reader")
        reader.add_done_callback(self._reader_ended)
        self._statistics.open += 1
        try:
            if self._opened is not None:
                await write(self._replies.account(opened=self._opened))
            await self._write_results(write, reader)
            failure = reader.exception()
            if self._opened is not None and (failure is None or isinstance(failure, UnavailableError)):
                await write(self._replies.closed())
            if failure is not None:
                raise failure
        finally:
            self._statistics.open -= 1
            await self._stop(reader)

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
        self._reader.go_on()
        # Not at each change: waking the writer costs as much as all else here.
        if ledger.is_result_ready or (self._replies.is_told and ledger.must_tell):
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
                    self._finish(entry, self._replies.failed(entry, error), is_answer=False)
                continue
            seat.wait()
            return

    def _seat_now(self) -> Seat:
        """The stream's place at the share of the version that would answer now."""
        with self._work.acquire() as handle:
            share = self._rooms.share(handle)
        if self._caller.is_withdrawn:
            self._reader.withdraw()
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
            response = self._replies.begun(entry)
            response.result.SetInParent()
            frame = frame_of(entry.payload)
            cost = await self._work.answer(frame, entry.number, deadline_ns, response.result)
        except Exception as error:  # noqa: BLE001  # in-band: the stream lives on
            return self._replies.failed(entry, error), None
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
            response = self._replies.failed(entry, InternalError("the work on the frame was cancelled"))
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
        ledger, replies = self._ledger, self._replies
        is_going = False
        while True:
            self._news.clear()
            failure = reader.exception() if reader.done() else None
            if replies.is_told and not is_going and isinstance(failure, UnavailableError):
                is_going = True
                await write(replies.goaway(failure.message))
            elif (entry := ledger.take()) is not None:
                await write(replies.finished(entry))
                del entry  # not for as long as the next one takes
                ledger.written()
                self._changed()
            elif replies.is_told and ledger.must_tell:
                await write(replies.account())
                self._changed()
            elif reader.done() and ledger.is_settled:
                return
            else:
                await self._news.wait()

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
