"""One stream's state on the client: what to send, what may be taken, what was answered. No I/O, no waiting.

Both clients' sessions drive it. They ask `next_write` for what to write on the call under way, hand in what
was read and how the call ended, and open another call when `next_call_s` says when. A frame is in `_frames`
from when the caller gives it until it is answered, failed or dropped, whatever happens to the calls below;
so nothing is lost, and nothing is delivered twice.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Generic

import grpc

from naiad_client.errors import (
    AlreadyExistsError,
    CancelledError,
    InternalError,
    NaiadError,
    from_status,
)
from naiad_client.results import FrameResult, ResultT, StreamAccount
from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

if TYPE_CHECKING:
    from naiad_client.retries import RetryPlan
    from naiad_client.stream_messages import StreamMessages, Terms

_REASONS = {pb.DROP_REASON_SUPERSEDED: "superseded", pb.DROP_REASON_TOO_OLD: "too_old"}
STALE = "stale"
LOST = "lost"


class Mark(Enum):
    """What is no message and no result."""

    WAIT = auto()
    """Not yet: ask again when something has changed."""
    END = auto()
    """No more will come."""


class _Phase(Enum):
    PAUSED = auto()
    """No call is under way; the next one is due at a known time."""
    CALLING = auto()
    OVER = auto()


class StreamCore(Generic[ResultT]):
    """The state of one stream, over as many calls as it takes. Its owner holds a lock."""

    def __init__(
        self, messages: StreamMessages[ResultT], terms: Terms, plan: RetryPlan, now_s: float
    ) -> None:
        self.messages = messages
        self.terms = terms
        self.model = ""
        self.version = ""
        self._plan = plan
        self._phase = _Phase.PAUSED
        self._due_s = now_s
        self._failure: Exception | None = None
        self._told = False
        self._frames: dict[int, Any] = {}
        self._unsent: deque[int] = deque()
        self._results: deque[FrameResult[ResultT]] = deque()
        self._reserved = 0
        self._next_id = 0
        self._next_track = 0
        self._finishing = False
        self._counts = {"sent": 0, "answered": 0, "failed": 0, "skipped": 0, "resent": 0, "resumed": -1}
        self._dropped: dict[str, int] = {}
        self._reset_call()

    def _reset_call(self) -> None:
        """What is known of a call is forgotten with it."""
        self._number = getattr(self, "_number", 0) + 1
        self._opening_due = True
        self._written = 0
        # A server without word of credit yet has room for one frame; without a contract it never speaks of
        # it.
        self._credit: int | None = 1 if self.terms.contract else None
        self._goaway_ms: int | None = None
        self._closed = False
        self._heard = False

    # --- the caller's side ----------------------------------------------------------------------------------

    def reserve(self) -> bool:
        """Set room aside for a frame; False if there is none now.

        Raises:
            NaiadError: the stream failed.
            CancelledError: it takes no frames any more.
        """
        self._check_open()
        if not self._has_room():
            return False
        self._reserved += 1
        return True

    def unreserve(self) -> None:
        """Give the room back that a frame was to have."""
        self._reserved -= 1

    def skip(self) -> None:
        """Count a frame that was not taken."""
        self._counts["skipped"] += 1

    def accept(self, frame_id: int | None, message: Any) -> None:
        """Take a frame for which room was reserved; it is sent as soon as there is a call with credit.

        Args:
            frame_id: the caller's, or None for the next number.
            message: the frame's message, but for its id.

        Raises:
            AlreadyExistsError: a frame with that id is not answered yet.
            NaiadError: the stream has ended meanwhile.
        """
        if self.is_over:
            self._check_open()
        chosen = self._next_id if frame_id is None else frame_id
        if chosen in self._frames:
            raise AlreadyExistsError(
                grpc.StatusCode.ALREADY_EXISTS,
                f"frame {chosen} is in flight: until it is answered no other can have its id",
            )
        message.frame.frame_id = chosen
        self._reserved -= 1
        self._next_id = max(self._next_id, chosen + 1)
        self._counts["sent"] += 1
        self._frames[chosen] = message
        self._unsent.append(chosen)

    def finish(self) -> None:
        """Take no more frames; those that were taken are answered."""
        self._finishing = True

    def take(self) -> FrameResult[ResultT] | Mark:
        """The next result; WAIT if there is none yet, END after the last.

        Raises:
            NaiadError: the stream failed; all results from before were taken.
        """
        if self._results:
            return self._results.popleft()
        if self._phase is not _Phase.OVER:
            return Mark.WAIT
        self._raise_failure()
        return Mark.END

    def raise_untold(self) -> None:
        """Raise what the stream failed with, if nobody was told yet and it was not cancelled on this side."""
        if not self._told:
            self._raise_failure()

    @property
    def is_over(self) -> bool:
        """Whether nothing will be sent or received any more; results may still be taken."""
        return self._phase is _Phase.OVER

    @property
    def is_finishing(self) -> bool:
        """Whether no more frames are taken."""
        return self._finishing or self.is_over

    @property
    def has_unsent(self) -> bool:
        """Whether whoever writes may have something to do: frames, or the half-close due after a goodbye."""
        return bool(self._unsent) or self._goaway_ms is not None or self._finishing

    @property
    def untaken(self) -> int:
        """Results that nobody has taken out yet."""
        return len(self._results)

    @property
    def is_full_of_results(self) -> bool:
        """Whether there is room for another frame only once a result is taken."""
        taken = len(self._frames) + self._reserved
        return not taken and len(self._results) >= self.terms.max_untaken

    @property
    def account(self) -> StreamAccount:
        """What became of the frames so far."""
        counts = self._counts | {"resumed": max(0, self._counts["resumed"])}
        return StreamAccount(**counts, dropped=dict(self._dropped), in_flight=len(self._frames))

    # --- the call's side ------------------------------------------------------------------------------------

    def next_call_s(self, now_s: float) -> float | Mark:
        """Seconds until the next call is to be opened; END if none is."""
        return Mark.END if self.is_over else max(0.0, self._due_s - now_s)

    def left_s(self, now_s: float) -> float | None:
        """Seconds that a call may take; None for no limit."""
        return self._plan.left_s(now_s)

    def begin_call(self) -> int:
        """Begin a call; returns its number, which `next_write` wants to hear."""
        self._reset_call()
        self._phase = _Phase.CALLING
        self._counts["resumed"] += 1
        return self._number

    def next_write(self, number: int) -> Any:
        """The next message of a call; WAIT if there is none yet, END if it is to be half-closed."""
        if number != self._number or self._phase is not _Phase.CALLING or self._goaway_ms is not None:
            return Mark.END
        if self._opening_due:
            self._opening_due = False
            return self.messages.opening(self._next_track)
        while self._unsent and self._has_credit():
            frame_id = self._unsent.popleft()
            if frame_id in self._frames:
                self._written += 1
                return self._frames[frame_id]
        if self._finishing and not self._unsent and not self._reserved:
            return Mark.END
        return Mark.WAIT

    def received(self, response: Any) -> None:
        """Note a message of the server.

        Raises:
            InternalError: it breaks the stream's rules; the call is to be cancelled, the stream has failed.
        """
        if self.is_over:
            return
        try:
            self._received(response)
        except NaiadError as error:
            self.fail(error)
            raise

    def ended(self, error: NaiadError | None, now_s: float) -> None:
        """Note how a call ended: with an error, or None for OK."""
        if self.is_over:
            return
        if self._is_done and (error is None or self._closed or self._is_nothing_lost(error)):
            self._phase = _Phase.OVER
        elif self._goaway_ms is not None and (error is None or error.code is grpc.StatusCode.UNAVAILABLE):
            self._resume(self._goaway_pause_s(error, now_s), error or self._gone(), now_s)
        elif error is None:
            self.fail(_internal(f"the server ended the stream too early, after {self._answers} frames"))
        else:
            self._resume(self._plan.pause_s(error, now_s), error, now_s)

    def fail(self, error: Exception) -> None:
        """End the stream with an error, which is raised after the results that are there."""
        if self.is_over:
            return
        self._failure = error
        self._phase = _Phase.OVER
        self._drop(list(self._frames), LOST)
        self._unsent.clear()

    def cancel(self) -> None:
        """End the stream at once: what is in flight is lost, what was not taken is thrown away."""
        self.cut()
        self._results.clear()
        self._told = True

    def cut(self) -> None:
        """End the stream at once; results that are there can still be taken."""
        self.fail(CancelledError(grpc.StatusCode.CANCELLED, "the stream was cancelled on this side"))

    # --- inside ---------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        self._raise_failure()
        if self.is_finishing:
            raise CancelledError(
                grpc.StatusCode.CANCELLED, "the stream was closed on this side: it takes no frames"
            )

    def _raise_failure(self) -> None:
        if self._failure is not None:
            self._told = True
            raise self._failure

    def _has_room(self) -> bool:
        taken = len(self._frames) + self._reserved
        if taken + len(self._results) >= self.terms.max_untaken:
            return False
        if self.terms.max_in_flight is not None and taken >= self.terms.max_in_flight:
            return False
        if self._credit is None:
            return True
        calling = self._phase is _Phase.CALLING and self._goaway_ms is None
        return calling and self._written + len(self._unsent) + self._reserved < self._credit

    def _has_credit(self) -> bool:
        return self._credit is None or self._written < self._credit

    @property
    def _is_done(self) -> bool:
        """Whether all frames that there will ever be are accounted for."""
        return self._finishing and not self._frames and not self._reserved

    def _is_nothing_lost(self, error: NaiadError) -> bool:
        """Whether a server that went away has done all its work; one that was never there has not."""
        return error.code is grpc.StatusCode.UNAVAILABLE and self._counts["sent"] > 0

    @property
    def _answers(self) -> int:
        return self._counts["answered"] + self._counts["failed"]

    def _received(self, response: Any) -> None:
        outcome = response.WhichOneof("outcome")
        told = response.HasField("account")
        if not self._heard:
            self._heard = True
            if outcome != "opened" and not told:
                self._credit = None  # a server that knows no contracts reads what comes
        if told:
            self._note_account(response.account)
        if outcome == "opened":
            self.model, self.version = response.opened.model.name, response.opened.model.version
        elif outcome == "goaway":
            self._goaway_ms = response.goaway.retry_after_ms
            self._next_track = max(self._next_track, response.goaway.next_track_id)
        elif outcome == "closed":
            self._closed = True
            self._next_track = max(self._next_track, response.closed.next_track_id)
        elif outcome is not None or not told:
            self._note_answer(self.messages.parse(response))

    def _note_account(self, account: pb.StreamAccount) -> None:
        for dropped in account.dropped:
            unknown = [frame_id for frame_id in dropped.frame_ids if frame_id not in self._frames]
            if unknown:
                raise _internal(f"the server dropped frame {unknown[0]}, which is not in flight")
            self._drop(dropped.frame_ids, _REASONS.get(dropped.reason, "unspecified"))
        if account.credit_limit and self._credit is not None:
            self._credit = max(self._credit, account.credit_limit)

    def _note_answer(self, result: FrameResult[ResultT]) -> None:
        self._check_due(result.frame_id)
        del self._frames[result.frame_id]
        self._counts["answered" if result.error is None else "failed"] += 1
        for face in getattr(result.result, "faces", ()):
            self._next_track = max(self._next_track, (face.track_id or 0) + bool(face.track_id))
        self._plan.progress()
        self._results.append(result)

    def _check_due(self, frame_id: int) -> None:
        """Hold the server to one answer a frame, in the order that was agreed."""
        if frame_id in self._unsent or frame_id not in self._frames:
            due = next(iter(self._frames), None)
            wanted = "none" if due is None or due in self._unsent else f"frame {due}"
            raise _internal(f"the server answered frame {frame_id} where {wanted} was due")
        if self.terms.in_order and frame_id != (due := next(iter(self._frames))):
            raise _internal(f"the server answered frame {frame_id} where frame {due} was due")

    def _drop(self, frame_ids: Any, reason: str) -> None:
        count = 0
        for frame_id in frame_ids:
            count += self._frames.pop(frame_id, None) is not None
        if count:
            self._dropped[reason] = self._dropped.get(reason, 0) + count

    def _gone(self) -> NaiadError:
        return from_status(grpc.StatusCode.UNAVAILABLE, "the server went away")

    def _goaway_pause_s(self, error: NaiadError | None, now_s: float) -> float | None:
        """When a server that said goodbye is to be called again: as its status or its goodbye says."""
        gone = error or self._gone()
        if gone.retry_after_ms is None and self._goaway_ms:
            gone = from_status(gone.code, gone.message, self._goaway_ms)
        return self._plan.pause_s(gone, now_s)

    def _resume(self, pause_s: float | None, error: NaiadError, now_s: float) -> None:
        """Go on over another call after a pause; without one the stream has failed."""
        if pause_s is None:
            self.fail(error)
            return
        waiting = set(self._unsent)
        if self.terms.latest:
            self._drop(list(self._frames)[:-1], STALE)
        self._counts["resent"] += sum(frame_id not in waiting for frame_id in self._frames)
        self._unsent = deque(self._frames)
        self._phase, self._due_s = _Phase.PAUSED, now_s + pause_s
        if self._is_done and self._counts["sent"]:
            self._phase = _Phase.OVER


def _internal(message: str) -> InternalError:
    return InternalError(grpc.StatusCode.INTERNAL, message)
