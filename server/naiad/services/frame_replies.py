"""What a stream of frames tells its client: results and errors, and with a contract how the stream stands.

Without a contract a stream is told results and errors only. With one it is told `opened` first, an `account`
with everything, `goaway` when the server drains, `closed` last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from naiad.core.errors import DeadlineExceededError
from naiad.services.status import code_number, status_of
from naiad.services.stream_messages import account_message, closed_message, fill_account
from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

if TYPE_CHECKING:
    from naiad.dataplane.frames.ledger import Entry, FrameLedger
    from naiad.services.frame_work import FrameWork

    Frame = Entry[Any, Any]

RETRY_AFTER_MS = 1_000
"""When clients are told to try again after a goaway: a balancer has heard of the drain by then."""


class FrameReplies:
    """Makes the messages of one stream. `is_told` says that its client has asked for a contract."""

    def __init__(self, work: FrameWork, ledger: FrameLedger[Any, Any], *, is_told: bool) -> None:
        self.is_told = is_told
        self._work = work
        self._ledger = ledger

    def begun(self, entry: Frame) -> Any:
        """The answer to a frame, without its result."""
        return self._work.response_type(frame_id=entry.frame_id, capture_time_us=entry.capture_time_us)

    def failed(self, entry: Frame, error: Exception) -> Any:
        """The answer to a frame that fails."""
        status = status_of(error)
        response = self.begun(entry)
        response.error.code = code_number(status)
        response.error.message = status.message
        return response

    def finished(self, entry: Frame) -> Any:
        """What is written of a frame that was answered, failed, or came too late."""
        response = entry.result
        if response is None:
            response = self.failed(entry, self._too_late(entry))
        if self.is_told:
            fill_account(response.account, self._ledger.tell(), entry)
        return response

    def account(self, **outcome: Any) -> Any:
        """How the stream stands, and what else is told; it answers no frame."""
        return self._work.response_type(account=account_message(self._ledger.tell()), **outcome)

    def goaway(self, reason: str) -> Any:
        """No further frame is read: the client does well to go on elsewhere."""
        return self.account(
            goaway=pb.StreamGoaway(
                reason=reason,
                frames_received=self._ledger.received,
                retry_after_ms=RETRY_AFTER_MS,
                next_track_id=self._work.next_track_id,
            )
        )

    def closed(self) -> Any:
        """The last message."""
        closed = closed_message(self._ledger)
        closed.next_track_id = self._work.next_track_id
        self._work.close(closed)
        return self.account(closed=closed)

    def _too_late(self, entry: Frame) -> DeadlineExceededError:
        limit_ms = (self._ledger.contract.frame_deadline_ns or 0) // 1_000_000
        what = "answered" if entry.begun_ns else "begun with"
        return DeadlineExceededError(
            f"the frame was not {what} within {limit_ms} ms of its arrival (contract.frame_deadline_ms)"
        )
