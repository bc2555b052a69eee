"""The state of a stream without a wire: what is sent, resent, dropped and delivered, and that nothing is lost."""

from __future__ import annotations

import random
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import naiad_client
from naiad_client.errors import NaiadError, from_status
from naiad_client.images import Pictures
from naiad_client.messages import Messages
from naiad_client.retries import RetryPlan
from naiad_client.stream_core import Mark, StreamCore
from naiad_client.stream_messages import Terms, stream_messages
from naiad_protos.naiad.vision.v1 import vision_pb2 as pb

GONE = from_status(grpc.StatusCode.UNAVAILABLE, "gone")


def core(contract: bool = True, retries: int = 1_000, **options: Any) -> StreamCore[Any]:
    """A detection stream's state at second 0."""
    chosen: Any = {"tracks": True, **options}
    messages = stream_messages(Messages("", "", Pictures()), "detect", chosen, contract=contract)
    latest, in_order = options.get("policy") == "latest", options.get("order") != "ready"
    return StreamCore(messages, Terms(contract, latest, in_order, None, 256), RetryPlan(retries), 0)


def send(state: StreamCore[Any], frame_id: int | None = None) -> bool:
    """Give the stream a frame, if there is room for it."""
    if not state.reserve():
        return False
    state.accept(frame_id, state.messages.frame(5, b"x", None))
    return True


def opened(credit: int) -> pb.StreamDetectResponse:
    return pb.StreamDetectResponse(
        opened=pb.StreamOpened(model=pb.ModelVersion(name="yunet", version="3")), account=account(credit)
    )


def account(credit: int, *dropped: int) -> pb.StreamAccount:
    drops = [pb.DroppedFrames(reason=pb.DROP_REASON_SUPERSEDED, frame_ids=dropped)] if dropped else []
    return pb.StreamAccount(credit_limit=credit, dropped=drops)


def answer(
    frame_id: int, credit: int = 0, *dropped: int, track_id: int | None = None
) -> pb.StreamDetectResponse:
    faces = [pb.Face(track_id=track_id)] if track_id else []
    return pb.StreamDetectResponse(
        frame_id=frame_id, result=pb.DetectResponse(faces=faces), account=account(credit, *dropped)
    )


def begun(state: StreamCore[Any], credit: int = 4) -> int:
    """A call that the server has opened."""
    number = state.begin_call()
    assert state.next_write(number).WhichOneof("message") == "options"
    state.received(opened(credit))
    return number


def written(state: StreamCore[Any], number: int) -> list[int]:
    """The ids of the frames that are written now."""
    ids = []
    while not isinstance(message := state.next_write(number), Mark):
        ids.append(message.frame.frame_id)
    return ids


def delivered(state: StreamCore[Any]) -> list[int]:
    ids = []
    while not isinstance(result := state.take(), Mark):
        ids.append(result.frame_id)
    return ids


def balance(state: StreamCore[Any]) -> None:
    """What must be so at any moment."""
    told = state.account
    assert told.sent == told.answered + told.failed + sum(told.dropped.values()) + told.in_flight


def test_one_frame_may_go_before_the_server_has_spoken_then_as_many_as_it_says() -> None:
    state = core()
    assert not send(state), "no call is under way"
    number = state.begin_call()
    assert [send(state), send(state)] == [True, False]
    state.next_write(number)
    state.received(opened(3))
    assert (state.model, state.version) == ("yunet", "3")
    assert [send(state) for _ in range(3)] == [True, True, False]
    assert written(state, number) == [0, 1, 2]
    state.received(answer(0, credit=4))
    assert [send(state), send(state)] == [True, False]


def test_a_server_that_knows_no_contract_is_not_waited_for() -> None:
    """Its first word is a result: it reads what comes."""
    state = core()
    number = state.begin_call()
    send(state)
    assert written(state, number)[-1:] == [0]
    state.received(pb.StreamDetectResponse(frame_id=0, result=pb.DetectResponse()))
    assert all(send(state) for _ in range(20))


def test_drops_are_counted_by_reason_and_never_delivered() -> None:
    state = core(policy="latest")
    number = begun(state)
    for _ in range(4):
        send(state)
    written(state, number)
    state.received(answer(2, 8, 0, 1))
    state.received(pb.StreamDetectResponse(account=account(9, 3)))
    assert delivered(state) == [2]
    assert state.account.dropped == {"superseded": 3}
    balance(state)


def test_goaway_sends_again_what_was_not_read_and_numbers_tracks_on() -> None:
    """The server has read three of four frames, and answers those before it ends."""
    state = core()
    number = begun(state)
    for _ in range(4):
        send(state)
    written(state, number)
    state.received(answer(0, track_id=5))
    state.received(
        pb.StreamDetectResponse(
            goaway=pb.StreamGoaway(frames_received=3, retry_after_ms=700, next_track_id=6)
        )
    )
    assert state.next_write(number) is Mark.END
    assert not send(state)
    state.received(answer(1))
    state.received(answer(2, track_id=8))
    state.received(pb.StreamDetectResponse(closed=pb.StreamClosed(frames_received=3), account=account(0)))
    state.ended(None, 10)
    assert state.next_call_s(10) == pytest.approx(0.7)
    second = state.begin_call()
    assert state.next_write(second).options.tracks.first_track_id == 9
    assert written(state, second) == [3]
    assert (state.account.resent, state.account.resumed) == (1, 1)
    state.received(opened(5))
    state.received(answer(3))
    assert delivered(state) == [0, 1, 2, 3]


@pytest.mark.parametrize(("policy", "again"), [("every", [0, 1, 2, 3]), ("latest", [3])])
def test_a_broken_stream_goes_on_with_all_frames_or_the_newest(policy: str, again: list[int]) -> None:
    state = core(policy=policy)
    number = begun(state)
    for _ in range(4):
        send(state)
    written(state, number)
    state.ended(GONE, 0)
    balance(state)
    second = begun(state, 9)
    assert written(state, second) == again
    assert sum(state.account.dropped.values()) == 4 - len(again)


def test_without_retries_left_the_stream_fails_and_says_what_was_lost() -> None:
    state = core(retries=0)
    number = begun(state)
    send(state)
    send(state)
    written(state, number)
    state.received(answer(0))
    state.ended(GONE, 0)
    assert state.account.dropped == {"lost": 1}
    assert state.take().frame_id == 0  # type: ignore[union-attr]  # a result
    with pytest.raises(naiad_client.UnavailableError, match="gone"):
        state.take()
    with pytest.raises(naiad_client.UnavailableError, match="gone"):
        state.reserve()


def test_progress_gives_the_retries_back() -> None:
    """A server that answers one frame a call is a slow one, but not a dead one."""
    state = core(retries=1)
    for frame_id in range(5):
        begun(state, 9)
        assert send(state)
        written(state, frame_id + 2)
        state.received(answer(frame_id))
        state.ended(GONE, 0)
    assert delivered(state) == list(range(5))


def test_all_answered_and_closed_is_the_end() -> None:
    state = core()
    number = begun(state)
    send(state)
    state.finish()
    with pytest.raises(naiad_client.CancelledError, match="takes no frames"):
        state.reserve()
    assert written(state, number) == [0]
    state.received(answer(0))
    state.received(pb.StreamDetectResponse(closed=pb.StreamClosed(frames_received=1), account=account(0)))
    state.ended(None, 0)
    assert delivered(state) == [0]
    assert state.take() is Mark.END


def test_an_end_with_frames_unanswered_is_an_error() -> None:
    state = core(contract=False)
    state.begin_call()
    send(state)
    send(state)
    state.finish()
    written(state, 2)
    state.received(answer(0))
    state.ended(None, 0)
    assert state.take().frame_id == 0  # type: ignore[union-attr]  # a result
    with pytest.raises(naiad_client.InternalError, match="too early, after 1 frames"):
        state.take()


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (answer(1), "answered frame 1 where frame 0"),
        (answer(7), "answered frame 7 where frame 0"),
        (answer(2), "answered frame 2 where frame 0"),
        (pb.StreamDetectResponse(account=account(9, 7)), "dropped frame 7, which is not in flight"),
    ],
    ids=["order", "unknown", "unsent", "drop"],
)
def test_a_server_that_breaks_the_rules_is_found_out(response: Any, words: str) -> None:
    """Frame 2 was taken from the caller, but not sent."""
    state = core()
    number = begun(state, 2)
    send(state)
    send(state)
    written(state, number)
    state.received(pb.StreamDetectResponse(account=account(3)))
    send(state)
    with pytest.raises(naiad_client.InternalError, match=words):
        state.received(response)
    with pytest.raises(naiad_client.InternalError, match=words):
        state.take()


def test_results_may_come_as_they_are_ready_where_that_was_agreed() -> None:
    state = core(order="ready", tracks=False)
    number = begun(state)
    for _ in range(3):
        send(state)
    written(state, number)
    for frame_id in (2, 0, 1):
        state.received(answer(frame_id))
    assert delivered(state) == [2, 0, 1]


def test_an_id_is_taken_until_its_frame_is_answered() -> None:
    state = core()
    number = begun(state)
    assert send(state, 40)
    with pytest.raises(naiad_client.AlreadyExistsError, match="frame 40 is in flight"):
        send(state, 40)
    state.unreserve()
    assert send(state), "numbers go on after the caller's"
    assert written(state, number) == [40, 41]
    state.received(answer(40))
    assert send(state, 40)


def frames_of(  # noqa: C901, PLR0912 - one script of a server and a client, moved by chance
    seed: int, latest: bool
) -> tuple[StreamCore[Any], list[int]]:
    """A stream of chance, brought to its end: its state and the ids of the results that came."""
    chance = random.Random(seed)
    state = core(policy="latest" if latest else "every")
    out: list[int] = []
    wire: list[int] = []
    read: list[int] = []
    number = count = credit = 0
    going = False

    def connect() -> None:
        nonlocal number, count, credit, going
        wire.clear()
        read.clear()
        count, credit, going = 0, chance.randint(1, 4), False
        number = begun(state, credit)

    def finish_call(error: NaiadError | None) -> None:
        state.ended(error, 0)
        if not state.is_over:
            connect()

    connect()
    for step in range(400):
        if state.is_over:
            break
        if step == 250:
            state.finish()
        what = chance.choice(["send", "send", "write", "read", "answer", "answer", "drop", "take", "end"])
        if what == "send" and step < 250:
            send(state)
        elif what == "write":
            wire += written(state, number)
        elif what == "read" and wire and not going:
            read.append(wire.pop(0))
            count += 1
        elif what == "answer" and read:
            credit = max(credit, count + chance.randint(1, 4))
            state.received(answer(read.pop(0), credit))
        elif what == "drop" and latest and len(read) > 1:
            state.received(pb.StreamDetectResponse(account=account(credit, read.pop(0))))
        elif what == "take":
            out += delivered(state)
        elif what == "end" and chance.random() < 0.1:
            if chance.random() < 0.5 and not going:
                going = True
                state.received(pb.StreamDetectResponse(goaway=pb.StreamGoaway(frames_received=count)))
            elif going and not read:
                finish_call(None)
            else:
                finish_call(GONE)
        balance(state)
    while not state.is_over:
        wire += written(state, number)
        if going:
            for frame_id in read:
                state.received(answer(frame_id))
            finish_call(None)
            continue
        for frame_id in read + wire:
            count += 1
            state.received(answer(frame_id, count + 100))
        state.received(pb.StreamDetectResponse(account=account(count + 100)))
        read.clear()
        wire.clear()
        state.finish()
        if not state.account.in_flight:
            finish_call(None)
    return state, out + delivered(state)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_whatever_happens_each_frame_has_one_fate(seed: int, latest: bool) -> None:
    """Answers come once each and in order; with every frame wanted, all of them come."""
    state, results = frames_of(seed, latest)
    told = state.account
    assert told.in_flight == 0
    assert results == sorted(set(results))
    assert len(results) == told.answered
    assert told.sent == told.answered + sum(told.dropped.values())
    if not latest:
        assert results == list(range(told.sent))
