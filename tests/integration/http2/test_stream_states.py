"""Frames that a stream's state does not allow."""

from __future__ import annotations

import struct

import pytest
from support.http2_peer import (
    END_HEADERS,
    END_STREAM,
    PRIORITISED,
    Code,
    Kind,
    Peer,
    frame,
    head,
    literals,
    message,
    reset,
    window,
)
from support.http2_served import IS_LIVE, LIVE, WATCH, ends, lives, own

HEAD = literals(head(LIVE))
TRAILERS = literals([("x-late", "1")])


def opened(stream: int, flags: int = 0, block: bytes = HEAD) -> bytes:
    return frame(Kind.HEADERS, END_HEADERS | flags, stream, block)


@pytest.mark.parametrize(
    "sent",
    [
        frame(Kind.DATA, 0, 1, message(b"")),
        reset(1),
        window(1, 1),
        frame(Kind.CONTINUATION, END_HEADERS, 1, HEAD),
    ],
    ids=["data", "reset", "window", "continuation"],
)
def test_a_frame_on_an_idle_stream_ends_the_connection(peer: Peer, transport: str, sent: bytes) -> None:
    if sent[3] != Kind.CONTINUATION:
        own(transport, "skips frames of streams that it does not know")
    peer.send(sent)
    ends(peer, transport, Code.PROTOCOL_ERROR)


def test_priority_on_an_idle_stream_is_fine(peer: Peer) -> None:
    for stream in (1, 2, 9, 2**31 - 1):
        peer.send(frame(Kind.PRIORITY, 0, stream, struct.pack(">IB", 0, 15)))
    lives(peer)


@pytest.mark.parametrize("stream", [2, 4, 1_000])
def test_a_stream_with_an_even_id_ends_the_connection(peer: Peer, transport: str, stream: int) -> None:
    peer.send(opened(stream))
    if transport == "grpcio":
        lives(peer)  # it skips the stream
    else:
        ends(peer, transport, Code.PROTOCOL_ERROR)


def test_an_id_below_the_last_one_ends_the_connection(peer: Peer, transport: str) -> None:
    """Streams that were skipped count as closed."""
    peer.send(opened(5) + frame(Kind.DATA, END_STREAM, 5, message(b"")))
    assert peer.answer(5).messages() == [IS_LIVE]
    peer.send(opened(3) + frame(Kind.DATA, END_STREAM, 3, message(b"")))
    peer.next_stream = 7
    if transport == "grpcio":
        lives(peer)  # it skips the stream
        assert not peer.answers[3].over if 3 in peer.answers else True
    else:
        ends(peer, transport, Code.PROTOCOL_ERROR, Code.STREAM_CLOSED)


def test_ids_may_leave_gaps_up_to_the_last(peer: Peer) -> None:
    for stream in (1, 9, 10_001, 2**31 - 3, 2**31 - 1):
        peer.send(opened(stream) + frame(Kind.DATA, END_STREAM, stream, message(b"")))
        assert peer.answer(stream).messages() == [IS_LIVE]


LATE = {
    "data": frame(Kind.DATA, 0, 1, message(b"")),
    "data-end": frame(Kind.DATA, END_STREAM, 1, message(b"")),
    "headers": opened(1),
    "trailers": opened(1, END_STREAM, TRAILERS),
}


@pytest.mark.parametrize("case", LATE)
def test_what_comes_after_the_clients_end_of_a_call_at_work_is_refused(
    peer: Peer, transport: str, case: str
) -> None:
    """The stream is half closed: the call is a watch, whose answer goes on."""
    own(transport, "skips what comes after the end")
    peer.send(opened(1, 0, literals(head(WATCH))) + frame(Kind.DATA, END_STREAM, 1, message(b"")))
    peer.until(Kind.DATA, stream=1)
    peer.send(LATE[case])
    malformed = ["reset PROTOCOL_ERROR"] if case == "headers" else []  # trailers that end nothing
    assert peer.fate(1) in ["reset STREAM_CLOSED", "goaway STREAM_CLOSED", *malformed]


@pytest.mark.parametrize("by", ["end", "reset"])
@pytest.mark.parametrize("case", LATE)
def test_what_comes_for_a_closed_stream_is_never_answered(peer: Peer, by: str, case: str) -> None:
    """It may be refused or dropped; a second answer would be caught by the peer."""
    if by == "end":
        assert peer.call(LIVE, b"").messages() == [IS_LIVE]
    else:
        peer.send(opened(1) + reset(1))
        peer.next_stream = 3
    peer.send(LATE[case])
    stream = peer.request(LIVE, b"")
    fate = peer.fate(stream)
    assert fate in ("status 0", "goaway STREAM_CLOSED", "goaway PROTOCOL_ERROR")
    assert by == "end" or not peer._answer(1).data


@pytest.mark.parametrize(
    "sent",
    [window(1, 5), reset(1), frame(Kind.PRIORITY, 0, 1, bytes(5))],
    ids=["window", "reset", "priority"],
)
def test_what_may_have_been_under_way_when_a_stream_closed_is_ignored(peer: Peer, sent: bytes) -> None:
    assert peer.call(LIVE, b"").messages() == [IS_LIVE]
    peer.send(sent)
    lives(peer)


@pytest.mark.parametrize(
    "sent", [frame(Kind.DATA, 0, 1, bytes(9)), frame(Kind.DATA, END_STREAM, 1), window(1, 5), opened(1, END_STREAM, TRAILERS)],
    ids=["data", "data-end", "window", "trailers"],
)  # fmt: skip
def test_what_was_under_way_when_the_server_ended_a_stream_harms_no_other(peer: Peer, sent: bytes) -> None:
    """The server answers an unknown method before the client has ended; what still comes is not the client's fault."""
    peer.send(opened(1, 0, literals(head("/no.Such/Method"))))
    assert peer.answer(1).status == 12
    peer.send(sent)
    peer.next_stream = 3
    lives(peer)


def test_data_of_a_stream_that_is_over_still_uses_and_returns_the_connections_window(peer: Peer) -> None:
    """More than the connection's window holds goes to streams that the server has ended already."""
    sent, over = 0, peer.send_window * 5 // 4
    while sent < over:
        stream = peer.start(head("/no.Such/Method"))
        assert peer.answer(stream).status == 12
        for _ in range(60):
            while peer.send_window < 16_384:
                assert peer.read() is not None
            peer.send_window -= 16_384
            peer.send(frame(Kind.DATA, 0, stream, bytes(16_384)))
            sent += 16_384
        peer.send(reset(stream))
    lives(peer)


def test_a_stream_may_be_ended_by_an_empty_frame(peer: Peer) -> None:
    peer.send(opened(1) + frame(Kind.DATA, 0, 1, message(b"")) + frame(Kind.DATA, END_STREAM, 1))
    assert peer.answer(1).messages() == [IS_LIVE]


def test_a_stream_may_be_ended_by_trailers(peer: Peer) -> None:
    peer.send(opened(1) + frame(Kind.DATA, 0, 1, message(b"")) + opened(1, END_STREAM, TRAILERS))
    assert peer.answer(1).messages() == [IS_LIVE]


def test_trailers_that_do_not_end_the_stream_are_refused(peer: Peer, transport: str) -> None:
    own(transport, "takes them")
    peer.send(opened(1) + frame(Kind.DATA, 0, 1, message(b"")) + opened(1, 0, TRAILERS))
    assert peer.fate(1) in ("reset PROTOCOL_ERROR", "goaway PROTOCOL_ERROR")


@pytest.mark.parametrize("by", ["priority", "headers"])
def test_a_stream_that_depends_on_itself_is_no_harm(peer: Peer, by: str) -> None:
    """RFC 9113 leaves priorities out: it may be refused as RFC 7540 wanted, or not looked at."""
    if by == "priority":
        peer.send(opened(1) + frame(Kind.PRIORITY, 0, 1, struct.pack(">IB", 1, 1)))
    else:
        peer.send(frame(Kind.HEADERS, END_HEADERS | PRIORITISED, 1, struct.pack(">IB", 1, 1) + HEAD))
    peer.send(frame(Kind.DATA, END_STREAM, 1, message(b"")))
    fate = peer.fate(1)
    assert fate in ("status 0", "reset PROTOCOL_ERROR", "goaway PROTOCOL_ERROR")
    if not fate.startswith("goaway"):
        peer.next_stream = 3
        lives(peer)


def test_a_push_of_a_client_ends_the_connection(peer: Peer, transport: str) -> None:
    own(transport, "skips it as a frame that it does not know")
    peer.send(opened(1) + frame(Kind.PUSH_PROMISE, END_HEADERS, 1, struct.pack(">I", 2) + HEAD))
    ends(peer, transport, Code.PROTOCOL_ERROR)


@pytest.mark.parametrize(
    "between",
    [
        opened(3),
        frame(Kind.DATA, 0, 1),
        frame(Kind.PING, payload=bytes(8)),
        frame(Kind.SETTINGS),
        window(0, 1),
        reset(1),
        frame(Kind.CONTINUATION, END_HEADERS, 3, HEAD[20:]),
        frame(Kind.PRIORITY, 0, 1, bytes(5)),
    ],
    ids=["headers", "data", "ping", "settings", "window", "reset", "other-continuation", "priority"],
)
def test_nothing_comes_between_the_parts_of_a_header_block(
    peer: Peer, transport: str, between: bytes
) -> None:
    rest = frame(Kind.CONTINUATION, END_HEADERS, 1, HEAD[20:])
    peer.send(frame(Kind.HEADERS, 0, 1, HEAD[:20]) + between + rest)
    ends(peer, transport, Code.PROTOCOL_ERROR)


def test_a_continuation_after_the_blocks_end_ends_the_connection(peer: Peer, transport: str) -> None:
    peer.send(opened(1) + frame(Kind.CONTINUATION, END_HEADERS, 1, TRAILERS))
    ends(peer, transport, Code.PROTOCOL_ERROR)


def test_a_window_of_a_stream_raised_by_nothing_resets_it(peer: Peer, transport: str) -> None:
    own(transport, "ends the connection")
    peer.send(opened(1) + window(1, 0))
    assert peer.fate(1) == "reset PROTOCOL_ERROR"
    peer.next_stream = 3
    lives(peer)


def test_a_window_of_the_connection_raised_by_nothing_ends_it(peer: Peer, transport: str) -> None:
    peer.send(window(0, 0))
    ends(peer, transport, Code.PROTOCOL_ERROR)
