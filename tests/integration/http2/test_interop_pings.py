"""Clients of gRPC that measure their bandwidth by pings, as grpc-go does: a ping behind each piece that came."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.http2_peer import Kind, Peer, head, message, ping
from support.http2_served import INFER, echo_request, echoed, own, served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.http2_served import Served

STRIKES = 1
PIECE = 16_384
LARGE = bytes(range(256)) * 4_096  # 1 MiB: sixteen windows of HTTP/2's default


@pytest.fixture(scope="module")
def strict(folder: Path, transport: str) -> Iterator[Served]:
    """A server that forgives one ping too many: by default they forgive two."""
    with served(folder, transport, grpc_http2_max_ping_strikes=STRIKES).running() as running:
        yield running
    assert not running.errors()


def test_a_ping_behind_each_piece_of_an_answer_is_no_strike(strict: Served) -> None:
    """One large answer goes out in many pieces, and each of them allows a ping."""
    with Peer(strict.address) as peer:
        peer.settled()
        stream = peer.request(INFER, echo_request(LARGE))
        pings = 0
        while not peer._answer(stream).over:
            found = peer.read()
            assert found is not None, peer.goaways
            if found.kind == Kind.DATA and len(peer.pongs) == pings:
                peer.send(ping())
                pings += 1
        assert pings > 2 * STRIKES
        assert not peer.goaways
        assert echoed(peer.answers[stream].messages()[0]) == LARGE


def test_a_ping_behind_each_window_of_a_request_is_no_strike(strict: Served, transport: str) -> None:
    """A client that uploads and gets nothing but room for more may ping when it is told of room."""
    own(transport, "tells so seldom of room that it shows nothing")
    sent = message(echo_request(LARGE * 15))
    with Peer(strict.address) as peer:
        peer.settled()
        stream = peer.start(head(INFER))
        peer.send_data(stream, sent[:PIECE])
        pings = 0
        for start in range(PIECE, len(sent), PIECE):
            piece = sent[start : start + PIECE]
            left = peer.send_windows[stream] - len(piece)
            peer.send_data(stream, piece, end=start + PIECE >= len(sent))
            if peer.send_windows[stream] > left:
                peer.pinged()
                pings += 1
        assert pings > STRIKES + 1
        [answer] = peer.answer(stream).messages()
        assert not peer.goaways
        assert echoed(answer) == LARGE * 15


def test_pings_while_nothing_can_be_sent_are_strikes_still(strict: Served) -> None:
    """An answer that waits for room sends nothing, so it excuses nothing."""
    with Peer(strict.address, grants=False) as peer:
        peer.settled()
        peer.request(INFER, echo_request(LARGE))
        while peer.receive_window:
            assert peer.read() is not None
        for _ in range(2 * STRIKES + 2):
            peer.send(ping())
        peer.end()
        assert peer.goaways[-1][2] == b"too_many_pings"
