"""Connections that end while their clients still take answers: what was sent is not lost on its way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.http2_peer import Code, Peer, window
from support.http2_served import INFER, LIVE, echo_request, echoed, own, served

if TYPE_CHECKING:
    from pathlib import Path

LARGE = bytes(range(256)) * 4_096 * 8  # 8 MiB: more than sockets of loopback take at once
ROOM = 2**30


def test_an_answer_that_is_on_its_way_when_the_connection_has_grown_old_arrives(
    folder: Path, transport: str
) -> None:
    """The client reads late and gives windows meanwhile, which a closed socket would answer with a reset."""
    own(transport, "closes the socket, and loses the answer")
    with (
        served(folder, transport, grpc_max_connection_age=200).running() as running,
        Peer(running.address, grants=False, receive_buffer=64 * 1024) as peer,
    ):
        peer.settled()
        stream = peer.request(INFER, echo_request(LARGE))
        while not peer.goaways:  # the answer waits for room when its connection has grown old
            assert peer.read() is not None
        peer.pinged()
        for where in (0, stream):
            peer.grant(where, ROOM)
        while not peer._answer(stream).over:
            assert peer.read() is not None, f"{len(peer.answers[stream].data)} bytes came"
            peer.send(window(0, 1))
        [answer] = peer.answers[stream].messages()
        assert echoed(answer) == LARGE
        assert peer.end() == Code.NO_ERROR
        assert not running.errors()


def test_a_connection_that_ended_in_order_takes_what_still_comes(folder: Path, transport: str) -> None:
    """Windows and pings that cross the end neither reset the connection nor are logged as errors."""
    with (
        served(folder, transport, grpc_max_connection_age=150).running() as running,
        Peer(running.address) as peer,
    ):
        assert peer.call(LIVE, b"").status == 0
        while peer.read() is not None:
            peer.send(window(0, 1))
        for _ in range(20):
            peer.send(window(0, 1))
        assert peer.goaways[-1][1] == Code.NO_ERROR
        assert not running.errors()
