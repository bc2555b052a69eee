"""One stream's frames: admitted, chosen, expired, answered, and told of. Pure: time is an argument.

At any moment received = waiting + at work + answered + failed + dropped. A frame goes one way:

    admit ─► waiting ─► begin ─► at work ─► finish ─► made ─► take ─► being written ─► written
                │                   │                  ▲
                ├─► dropped         └─► expire ────────┤
                └─► expire (past its deadline) ────────┘
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, NamedTuple, TypeVar

from naiad.dataplane.frames.contract import Contract, DropReason, FramePolicy, ResultOrder
from naiad.telemetry.streams import ModelStreams

Payload = TypeVar("Payload")
Result = TypeVar("Result")

MAX_UNTOLD_DROPS = 1_000
"""So many dropped frames may wait to be told of; then they must be, and the stream is read no further."""


class Entry(Generic[Payload, Result]):
    """One frame on its way. Times are on the monotonic clock in nanoseconds, 0 for not yet.

    `number` counts the stream's frames from 0; id and time of capture are the caller's own. `payload` is None
    once the frame is finished, so that pictures live no longer than the work on them.
    `result` is None for a frame whose deadline passed.
    """

    __slots__ = (
        "begun_ns",
        "capture_time_us",
        "deadline_ns",
        "frame_id",
        "is_finished",
        "number",
        "payload",
        "received_ns",
        "result",
    )

    def __init__(
        self,
        number: int,
        frame_id: int,
        capture_time_us: int,
        payload: Payload,
        *,
        received_ns: int,
        deadline_ns: int | None,
    ) -> None:
        self.number = number
        self.frame_id = frame_id
        self.capture_time_us = capture_time_us
        self.payload: Payload | None = payload
        self.received_ns = received_ns
        self.deadline_ns = deadline_ns
        self.begun_ns = 0
        self.is_finished = False
        self.result: Result | None = None

    def __repr__(self) -> str:
        state = "finished" if self.is_finished else "at work" if self.begun_ns else "waiting"
        return f"<Entry {self.frame_id} {state}>"


class Statement(NamedTuple):
    """What a message tells of the stream: the frames dropped since the last one, and the credit."""

    dropped: dict[DropReason, list[int]]
    credit_limit: int


class FrameLedger(Generic[Payload, Result]):
    """The frames of one stream under its contract; each of its methods takes constant time a frame."""

    def __init__(self, contract: Contract, totals: ModelStreams | None = None) -> None:
        """Begin without a frame; `totals` are counted along, for all streams of a model."""
        self.contract = contract
        # Asked for several times a frame.
        self._limit, self._window = contract.max_in_flight, contract.window
        self._is_latest = contract.policy is FramePolicy.LATEST_WINS
        self._totals = totals or ModelStreams()
        self.received = 0
        self.answered = 0
        self.failed = 0
        self.dropped = dict.fromkeys(DropReason, 0)
        self._waiting: deque[Entry[Payload, Result]] = deque()
        self._at_work: OrderedDict[Entry[Payload, Result], None] = OrderedDict()
        # By the order of the results: those at work among them, or only those that are made.
        self._results: deque[Entry[Payload, Result]] = deque()
        self._made = 0
        self._writing = 0
        self._untold: dict[DropReason, list[int]] = {}
        self._untold_count = 0
        self._told_credit = 0

    def __repr__(self) -> str:
        return (
            f"<FrameLedger received={self.received} waiting={self.waiting} at_work={self.at_work} "
            f"answered={self.answered} failed={self.failed} dropped={self.dropped_count}>"
        )

    # How it stands

    @property
    def waiting(self) -> int:
        """Frames that were not begun with."""
        return len(self._waiting)

    @property
    def at_work(self) -> int:
        """Frames that were begun with and have no result yet."""
        return len(self._at_work)

    @property
    def unwritten(self) -> int:
        """Results that are made and not yet written out, the one that is being written among them."""
        return self._made + self._writing

    @property
    def dropped_count(self) -> int:
        """Frames that were dropped, for whatever reason."""
        return sum(self.dropped.values())

    @property
    def is_settled(self) -> bool:
        """Whether every frame that was received is dropped, or its result written."""
        return not (self._waiting or self._at_work or self._made or self._writing)

    @property
    def may_read(self) -> bool:
        """Whether the stream may be read further."""
        if self._untold_count >= MAX_UNTOLD_DROPS:
            return False
        held = len(self._at_work) + self._made + self._writing
        if self._is_latest:
            # Above the limit are those that failed while they waited, and nobody reads that they did.
            return held <= self._limit
        return len(self._waiting) + held < self._limit

    @property
    def may_begin(self) -> bool:
        """Whether a frame waits that may be begun with when there is room."""
        return bool(self._waiting) and len(self._at_work) + self._made + self._writing < self._limit

    @property
    def credit_limit(self) -> int:
        """How many frames the client may have sent since the stream was opened."""
        told = self.received - len(self._waiting) - len(self._at_work) - self._made
        return told + self._window

    @property
    def due_ns(self) -> int | None:
        """When `expire` has something to do at the earliest; None for never."""
        contract = self.contract
        if contract.max_age_ns is None and contract.frame_deadline_ns is None:
            return None
        times = []
        if self._waiting:
            oldest = self._waiting[0]
            if contract.max_age_ns is not None:
                times.append(oldest.received_ns + contract.max_age_ns)
            if oldest.deadline_ns is not None:
                times.append(oldest.deadline_ns)
        if self._at_work:
            # Begun in the order of arrival, so that the first is the first to be late.
            first = next(iter(self._at_work))
            if first.deadline_ns is not None:
                times.append(first.deadline_ns)
        return min(times, default=None)

    # What happens to frames

    def admit(self, frame_id: int, payload: Payload, now_ns: int, *, capture_time_us: int = 0) -> None:
        """A frame has come; with `LATEST_WINS` it takes the place of the one that waits."""
        if self._is_latest and self._waiting:
            self._drop(self._waiting.popleft(), DropReason.SUPERSEDED)
        limit_ns = self.contract.frame_deadline_ns
        deadline_ns = None if limit_ns is None else now_ns + limit_ns
        self._waiting.append(
            Entry(
                self.received,
                frame_id,
                capture_time_us,
                payload,
                received_ns=now_ns,
                deadline_ns=deadline_ns,
            )
        )
        self.received += 1

    def begin(self, now_ns: int) -> Entry[Payload, Result] | None:
        """Choose the frame to begin with, or None; lets go of those for which it is too late."""
        self._expire_waiting(now_ns)
        if not self.may_begin:
            return None
        entry = self._waiting.popleft()
        entry.begun_ns = now_ns
        self._at_work[entry] = None
        if self.contract.order is ResultOrder.FRAMES:
            self._results.append(entry)
        return entry

    def finish(self, entry: Entry[Payload, Result], result: Result, *, is_answer: bool) -> bool:
        """A frame's result is made; False if it is not wanted any more, because its deadline has passed."""
        if entry.is_finished:
            return False
        del self._at_work[entry]
        if self.contract.order is ResultOrder.READY:
            self._results.append(entry)
        self._made_result(entry, result, is_answer=is_answer)
        return True

    def expire(self, now_ns: int) -> list[Entry[Payload, Result]]:
        """Let go of what has waited too long; returns the frames at work whose deadline has passed."""
        self._expire_waiting(now_ns)
        late = []
        for entry in self._at_work:
            if not _is_late(entry, now_ns):
                break
            late.append(entry)
        for entry in late:
            del self._at_work[entry]
            if self.contract.order is ResultOrder.READY:
                self._results.append(entry)
            self._made_result(entry, None, is_answer=False)
        return late

    # What is written

    def take(self) -> Entry[Payload, Result] | None:
        """The next result in the contract's order, to be written now; None if it is not made yet."""
        if not self.is_result_ready:
            return None
        self._made -= 1
        self._writing += 1
        return self._results.popleft()

    def written(self) -> None:
        """A result that was taken is written out."""
        self._writing -= 1

    @property
    def is_result_ready(self) -> bool:
        """Whether `take` has something to give."""
        return bool(self._results) and self._results[0].is_finished

    @property
    def must_tell(self) -> bool:
        """Whether drops or credit must be told of now, because no result will come to carry them."""
        if self._untold_count >= MAX_UNTOLD_DROPS:
            return True
        if self.is_result_ready:
            return False
        if self._untold_count and not self._at_work:
            return True
        return self._told_credit <= self.received and self._told_credit < self.credit_limit

    def tell(self) -> Statement:
        """What the next message tells; nothing is told twice."""
        dropped, self._untold, self._untold_count = self._untold, {}, 0
        self._told_credit = self.credit_limit
        return Statement(dropped, self._told_credit)

    def _expire_waiting(self, now_ns: int) -> None:
        waiting, max_age_ns = self._waiting, self.contract.max_age_ns
        while waiting:
            oldest = waiting[0]
            if _is_late(oldest, now_ns):
                self._results.append(waiting.popleft())
                self._made_result(oldest, None, is_answer=False)
            elif max_age_ns is not None and now_ns - oldest.received_ns >= max_age_ns:
                self._drop(waiting.popleft(), DropReason.TOO_OLD)
            else:
                return

    def _made_result(self, entry: Entry[Payload, Result], result: Result | None, *, is_answer: bool) -> None:
        entry.is_finished = True
        entry.payload = None
        entry.result = result
        self._made += 1
        if is_answer:
            self.answered += 1
            self._totals.answered += 1
        else:
            self.failed += 1
            self._totals.failed += 1

    def _drop(self, entry: Entry[Payload, Result], reason: DropReason) -> None:
        entry.is_finished = True
        entry.payload = None
        self.dropped[reason] += 1
        self._totals.dropped[reason.value] += 1
        self._untold.setdefault(reason, []).append(entry.frame_id)
        self._untold_count += 1


def _is_late(entry: Entry[Payload, Result], now_ns: int) -> bool:
    return entry.deadline_ns is not None and entry.deadline_ns <= now_ns
