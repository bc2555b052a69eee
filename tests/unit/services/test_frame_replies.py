"""What a stream tells its client: who asked for no contract is told results and errors, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from naiad.core.errors import NotFoundError
from naiad.dataplane.frames.contract import Contract
from naiad.dataplane.frames.ledger import FrameLedger
from naiad.services.frame_replies import RETRY_AFTER_MS, FrameReplies
from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

MS = 1_000_000


class Work:
    """The part of a stream's work that replies ask."""

    response_type = pb.StreamAnalyzeResponse
    next_track_id = 17

    def close(self, closed: pb.StreamClosed) -> None:
        closed.embedded = 3


def replies(*, is_told: bool = True) -> tuple[FrameReplies, FrameLedger[Any, Any]]:
    ledger: FrameLedger[Any, Any] = FrameLedger(Contract(4, frame_deadline_ns=50 * MS))
    work: Any = Work()
    return FrameReplies(work, ledger, is_told=is_told), ledger


@pytest.mark.parametrize("is_told", [True, False])
def test_an_error_names_its_frame_and_tells_how_the_stream_stands_if_that_was_asked_for(
    is_told: bool,
) -> None:
    made, ledger = replies(is_told=is_told)
    ledger.admit(7, "a picture", 0, capture_time_us=5)
    entry = ledger.begin(0)
    assert entry is not None
    ledger.finish(entry, made.failed(entry, NotFoundError("no model 'm'")), is_answer=False)
    response = made.finished(entry)
    assert (response.frame_id, response.capture_time_us) == (7, 5)
    assert (response.error.code, response.error.message) == (5, "no model 'm'")
    assert response.HasField("account") is is_told


@pytest.mark.parametrize(("is_begun", "what"), [(True, "answered"), (False, "begun with")])
def test_a_frame_that_came_too_late_is_told_what_was_not_done_within_which_limit(
    is_begun: bool, what: str
) -> None:
    made, ledger = replies()
    ledger.admit(7, "a picture", 1)
    if is_begun:
        ledger.begin(1)
    ledger.expire(51 * MS)
    entry = ledger.take()
    assert entry is not None
    assert made.finished(entry).error.message == (
        f"the frame was not {what} within 50 ms of its arrival (contract.frame_deadline_ms)"
    )


def test_the_last_messages_say_where_to_go_on() -> None:
    made, ledger = replies()
    ledger.admit(1, "a picture", 0)
    leaving = made.goaway("the server stops")
    assert leaving.goaway == pb.StreamGoaway(
        reason="the server stops", frames_received=1, retry_after_ms=RETRY_AFTER_MS, next_track_id=17
    )
    last = made.closed()
    assert last.closed == pb.StreamClosed(frames_received=1, next_track_id=17, embedded=3)
    assert leaving.account.credit_limit == last.account.credit_limit == 4
