"""However the client's bytes are cut into writes, the answers are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpack import Encoder
from support.http2_peer import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PREFACE,
    Kind,
    Peer,
    frame,
    head,
    literals,
    message,
    ping,
    settings,
    window,
)
from support.http2_served import INFER, LIVE, STREAM, echo_request, echoed, echoed_on_stream

if TYPE_CHECKING:
    from support.http2_served import Served


def call_of(stream: int, path: str, *messages: bytes) -> bytes:
    """All frames of a call."""
    body = b"".join(map(message, messages))
    cut = len(body) // 2
    fields = head(path, without=["user-agent"])
    return (
        frame(Kind.HEADERS, END_HEADERS, stream, Encoder().encode(fields))
        + frame(Kind.DATA, 0, stream, body[:cut])
        + frame(Kind.DATA, END_STREAM, stream, body[cut:])
    )


WHOLE = (
    PREFACE + settings() + frame(Kind.SETTINGS, ACK) + window(0, 1_000) + call_of(1, INFER, echo_request(b"first"))
    + ping() + frame(0x42, 0, 1, b"unknown") + call_of(3, STREAM, echo_request(b"a"), echo_request(b"b"))
)  # fmt: skip
"""A whole conversation of a client: it is acknowledged before it asks, which a server may not mind."""


def check(peer: Peer) -> None:
    [first] = peer.answer(1).messages()
    assert echoed(first) == b"first"
    assert [echoed_on_stream(each) for each in peer.answer(3).messages()] == [b"a", b"b"]
    assert peer.answers[3].status == 0


def test_a_conversation_cut_in_two_at_every_byte(running: Served) -> None:
    """Between the halves the server has time to read: the second goes when the first may have been read alone."""
    for cut in range(len(WHOLE) + 1):
        with Peer(running.address, greet=False, auto=False) as peer:
            peer.send(WHOLE[:cut])
            if cut >= len(PREFACE) + 9:
                peer.settled()  # the server has read what came with the settings
            peer.send(WHOLE[cut:])
            check(peer)


def test_a_conversation_byte_by_byte(running: Served) -> None:
    with Peer(running.address, greet=False, auto=False) as peer:
        for byte in WHOLE:
            peer.send(bytes([byte]))
        check(peer)


def test_a_conversation_in_writes_of_every_size(running: Served) -> None:
    for size in (2, 3, 5, 7, 9, 10, 13, 64, 500):
        with Peer(running.address, greet=False, auto=False) as peer:
            for at in range(0, len(WHOLE), size):
                peer.send(WHOLE[at : at + size])
            check(peer)


def test_two_hundred_calls_in_one_write(running: Served) -> None:
    with Peer(running.address, greet=False) as peer:
        streams = range(1, 401, 2)
        calls = [call_of(stream, INFER, echo_request(str(stream).encode() * 20)) for stream in streams]
        peer.send(PREFACE + settings() + b"".join(calls))
        for stream in streams:
            [answer] = peer.answer(stream).messages()
            assert echoed(answer) == str(stream).encode() * 20


def test_a_large_message_cut_at_odd_places(peer: Peer) -> None:
    """Large enough to be received where it stays: the cuts fall into frames' heads, prefixes and payloads."""
    payload = bytes(range(251)) * 1_000
    sent = message(echo_request(payload))
    frames = bytearray(frame(Kind.HEADERS, END_HEADERS, 1, literals(head(INFER))))
    sizes = [1, 4, 5, 1_000, 16_384, 3, 9_999, 16_383]
    at, turn = 0, 0
    while at < len(sent):
        size = sizes[turn % len(sizes)]
        frames += frame(Kind.DATA, END_STREAM if at + size >= len(sent) else 0, 1, sent[at : at + size])
        at, turn = at + size, turn + 1
    assert len(sent) < 4 * 65_535
    # No window is asked for: a quarter of a megabyte fits what servers give at once, or is given in time.
    start = 0
    for size in [1, 8, 9, 10, 5, 4, 20_000, 7, 65_000, 1, 1, 16_393, 40_000] * 10:
        if start < len(frames):
            peer.send(bytes(frames[start : start + size]))
        start += size
    assert start > len(frames)
    peer.next_stream = 3
    [answer] = peer.answer(1).messages()
    assert echoed(answer) == payload


def test_calls_of_both_kinds_interleaved_frame_by_frame(peer: Peer) -> None:
    bodies = {1: message(echo_request(b"x" * 300)), 3: message(b""), 5: message(echo_request(b"y" * 300)) * 2}
    paths = {1: INFER, 3: LIVE, 5: STREAM}
    out = [frame(Kind.HEADERS, END_HEADERS, stream, literals(head(paths[stream]))) for stream in bodies]
    for at in range(max(map(len, bodies.values()))):
        out += [
            frame(Kind.DATA, 0, stream, body[at : at + 1])
            for stream, body in bodies.items()
            if at < len(body)
        ]
    out += [frame(Kind.DATA, END_STREAM, stream) for stream in (5, 1, 3)]
    peer.send(b"".join(out))
    assert echoed(peer.answer(1).messages()[0]) == b"x" * 300
    assert peer.answer(3).status == 0
    assert [echoed_on_stream(each) for each in peer.answer(5).messages()] == [b"y" * 300] * 2
