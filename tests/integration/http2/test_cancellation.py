"""Calls that end before their answer: by reset, by deadline, by the connection, in each phase."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import pytest
from support.gates import RunGate
from support.http2_peer import Code, Kind, Peer, frame, head, message, reset
from support.http2_served import (
    INFER,
    STREAM,
    WATCH,
    echo_request,
    echoed,
    echoed_on_stream,
    lives,
    own,
    served,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.http2_served import Served

QUEUED, RUNNING = "queued", "running"


@pytest.fixture(scope="module")
def gated(folder: Path, transport: str) -> Iterator[tuple[Served, RunGate]]:
    """A server of which each run waits while the gate is shut."""
    with pytest.MonkeyPatch.context() as patch:
        gate = RunGate(patch)
        with served(folder, transport).running() as running:
            yield running, gate
            gate.open()
            assert not running.errors()


@pytest.fixture
def running(gated: tuple[Served, RunGate]) -> Iterator[Served]:
    running, gate = gated
    yield running
    gate.open()
    running.until(lambda: not running.busy("echo") and not running.queued("echo") and not running.calls())
    assert not running.errors()
    with Peer(running.address) as peer:
        lives(peer)


@pytest.fixture
def gate(gated: tuple[Served, RunGate]) -> RunGate:
    return gated[1]


def brought(
    running: Served, gate: RunGate, peer: Peer, phase: str, *, path: str = INFER
) -> tuple[int, int, int]:
    """Three calls: one runs, one is next to it in the queue, and one that is in the wanted phase, returned first."""
    gate.shut()
    if phase == RUNNING:
        wanted = asked(peer, path, b"wanted")
        running.until(lambda: running.busy("echo") == 1)
        others = asked(peer, INFER, b"one"), asked(peer, INFER, b"two")
        running.until(lambda: running.queued("echo") == 2)
        return wanted, *others
    first = asked(peer, INFER, b"one")
    running.until(lambda: running.busy("echo") == 1)
    wanted = asked(peer, path, b"wanted")
    running.until(lambda: running.queued("echo") == 1)
    second = asked(peer, INFER, b"two")
    running.until(lambda: running.queued("echo") == 2)
    return wanted, first, second


def asked(peer: Peer, path: str, data: bytes) -> int:
    stream = peer.start(head(path))
    peer.send_data(stream, message(echo_request(data)), end=path == INFER)
    return stream


def others_are_answered(peer: Peer, *streams: int) -> None:
    for stream, data in zip(streams, (b"one", b"two"), strict=True):
        [answer] = peer.answer(stream).messages()
        assert echoed(answer) == data


@pytest.mark.parametrize("phase", [QUEUED, RUNNING])
@pytest.mark.parametrize("path", [INFER, STREAM])
def test_a_reset_takes_the_call_away_and_no_other(
    running: Served, gate: RunGate, peer: Peer, phase: str, path: str
) -> None:
    """The queue lets go of a request that has not run; one that runs is left to end, unanswered."""
    wanted, *others = brought(running, gate, peer, phase, path=path)
    peer.send(reset(wanted))
    if phase == QUEUED:
        running.until(lambda: running.queued("echo") == 1)
    running.until(lambda: running.calls() == 2)
    gate.open()
    others_are_answered(peer, *others)
    assert not peer._answer(wanted).data


@pytest.mark.parametrize("phase", [QUEUED, RUNNING])
def test_a_deadline_takes_the_call_away_and_no_other(
    running: Served, gate: RunGate, peer: Peer, phase: str
) -> None:
    gate.shut()
    first = asked(peer, INFER, b"one") if phase == QUEUED else None
    if first is not None:
        running.until(lambda: running.busy("echo") == 1)
    wanted = peer.request(INFER, echo_request(b"wanted"), grpc_timeout="300m")
    assert peer.answer(wanted).status == 4
    running.until(lambda: not running.queued("echo"))
    running.until(lambda: running.calls() == (first is not None))
    gate.open()
    if first is not None:
        assert echoed(peer.answer(first).messages()[0]) == b"one"


@pytest.mark.parametrize("phase", [QUEUED, RUNNING])
@pytest.mark.parametrize("how", ["closed", "reset", "half-closed"])
def test_a_connection_that_ends_takes_its_calls_away(
    running: Served, gate: RunGate, phase: str, how: str
) -> None:
    gate.shut()
    with Peer(running.address) as peer, Peer(running.address) as other:
        first = asked(other, INFER, b"one")
        running.until(lambda: running.busy("echo") == 1)
        if phase == RUNNING:
            asked(peer, INFER, b"wanted")
            running.until(lambda: running.queued("echo") == 1)
            gate.let_one_go()
            running.until(lambda: running.queued("echo") == 0 and running.calls() == 1)
        else:
            for data in (b"a", b"b", b"c"):
                asked(peer, INFER, data)
            asked(peer, STREAM, b"d")
            running.until(lambda: running.queued("echo") == 4)
        ended(peer, how)
        running.until(lambda: not running.queued("echo"))
        running.until(lambda: running.calls() == (phase == QUEUED))
        gate.open()
        assert echoed(other.answer(first).messages()[0]) == b"one"


def ended(peer: Peer, how: str) -> None:
    """The client leaves: politely, with unread bytes, or saying only that it will send no more."""
    if how == "reset":
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how == "half-closed":
        peer.socket.shutdown(socket.SHUT_WR)
    else:
        peer.socket.close()


def test_an_error_of_the_connection_takes_its_calls_away(running: Served, gate: RunGate, peer: Peer) -> None:
    gate.shut()
    for data in (b"a", b"b"):
        asked(peer, INFER, data)
    running.until(lambda: running.busy("echo") == 1 and running.queued("echo") == 1)
    peer.send(frame(Kind.PING, 0, 0, b"short"))
    peer.end()
    running.until(lambda: not running.queued("echo") and not running.calls())


def test_a_stream_that_is_reset_between_messages_is_over(running: Served, peer: Peer) -> None:
    tasks = running.tasks()
    stream = asked(peer, STREAM, b"a")
    while not peer._answer(stream).messages():
        assert peer.read() is not None
    assert echoed_on_stream(peer.answers[stream].messages()[0]) == b"a"
    peer.send(reset(stream))
    running.calms_down(tasks)
    lives(peer)


@pytest.mark.parametrize("path", [INFER, STREAM, WATCH])
@pytest.mark.parametrize("sent", [0, 3, 20])
def test_a_call_reset_before_its_message_is_whole_leaves_nothing(
    running: Served, peer: Peer, path: str, sent: int
) -> None:
    tasks = running.tasks()
    for _ in range(20):
        stream = peer.start(head(path))
        peer.send_data(stream, message(echo_request(bytes(100)))[:sent])
        peer.send(reset(stream, Code.NO_ERROR))
    peer.pinged()
    running.calms_down(tasks)
    lives(peer)


def test_a_reset_with_an_unknown_code_is_one(running: Served, peer: Peer, gate: RunGate) -> None:
    wanted, *others = brought(running, gate, peer, QUEUED)
    peer.send(reset(wanted, 0xFEDCBA98))
    running.until(lambda: running.queued("echo") == 1)
    gate.open()
    others_are_answered(peer, *others)


def test_a_call_whose_client_ends_later_is_answered_before(
    running: Served, peer: Peer, transport: str
) -> None:
    """A unary call is refused at its second message or its end at the latest; until the end it may wait."""
    own(transport, "runs a call at its first message")
    stream = peer.start(head(INFER))
    peer.send_data(stream, message(echo_request(b"a")))
    peer.pinged()
    peer.send_data(stream, b"", end=True)
    assert echoed(peer.answer(stream).messages()[0]) == b"a"


def test_an_answered_call_whose_client_has_not_ended_is_let_go(running: Served, peer: Peer) -> None:
    """The answer is whole before the client's end: the stream is closed for it (NO_ERROR), and nothing is left."""
    tasks = running.tasks()
    for _ in range(50):
        stream = peer.start(head("/no.Such/Method"))
        assert peer.answer(stream).status == 12
        peer.pinged()
        assert peer.answers[stream].reset == Code.NO_ERROR
    running.calms_down(tasks)
    lives(peer)


def test_calls_that_time_out_together_are_each_told(running: Served, gate: RunGate, peer: Peer) -> None:
    gate.shut()
    streams = [peer.request(INFER, echo_request(b"x"), grpc_timeout=f"{50 + n}m") for n in range(50)]
    # Some may be refused at once: the queue is longer than they can wait.
    assert {peer.answer(stream).status for stream in streams} in ({4}, {4, 8})
    running.until(lambda: not running.queued("echo"))
