"""However the client's bytes are cut into writes, the answers are the same."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hpack import Encoder
from support.http2_peer import (
    ACK,
    END_HEADERS,
    END_STREAM,
    MAX_FRAME,
    PREFACE,
    Kind,
    Peer,
    Setting,
    frame,
    head,
    literals,
    message,
    ping,
    reset,
    settings,
    window,
)
from support.http2_served import INFER, LIVE, STREAM, echo_request, echoed, echoed_on_stream, own

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


@pytest.fixture
def large(peer: Peer) -> Peer:
    """A client that sends frames as large as the server takes, but no more than half a megabyte."""
    peer.frame_bytes = min(peer.settings.get(Setting.MAX_FRAME_SIZE, MAX_FRAME), 500_000)
    return peer


LARGE = bytes(range(251)) * 6_000


def test_large_frames_of_large_messages(large: Peer) -> None:
    for size in (65_536, 200_001, large.frame_bytes):
        large.frame_bytes = min(size, large.frame_bytes)
        [answer] = large.call(INFER, echo_request(LARGE)).messages()
        assert echoed(answer) == LARGE


@pytest.mark.parametrize("size", [66_000, 200_001, 400_000])
def test_other_frames_between_large_ones_and_behind_them_in_one_write(large: Peer, size: int) -> None:
    """What follows a large frame in the same write is no part of the message."""
    large.frame_bytes = min(large.frame_bytes, size)
    sent = message(echo_request(LARGE))
    stream, other = large.start(head(INFER)), large.start(head(STREAM))
    pings, at = 0, 0
    while at < len(sent):
        part = sent[at : at + large.frame_bytes]
        while large._room(stream) < len(part):
            assert large.read() is not None
        large.send_window -= len(part)
        large.send_windows[stream] -= len(part)
        at += len(part)
        small = message(echo_request(bytes([pings])))
        large.send_window -= len(small)
        large.send(
            frame(Kind.DATA, END_STREAM if at == len(sent) else 0, stream, part)
            + ping(pings.to_bytes(8, "big"))
            + frame(Kind.DATA, 0, other, small)
        )
        pings += 1
    large.send(frame(Kind.DATA, END_STREAM, other))
    [answer] = large.answer(stream).messages()
    assert echoed(answer) == LARGE
    answers = large.answer(other).messages()
    assert [echoed_on_stream(each) for each in answers] == [bytes([n]) for n in range(pings)]
    while len(large.pongs) < pings:
        assert large.read() is not None
    assert large.pongs == [n.to_bytes(8, "big") for n in range(pings)]


def test_small_and_large_messages_share_large_frames(large: Peer) -> None:
    """Frames end where no message does, and messages where no frame does."""
    payloads = [LARGE[: 1_000 * n * n] for n in (1, 20, 2, 12, 30, 3, 17)]
    stream = large.start(head(STREAM))
    large.send_data(stream, b"".join(message(echo_request(each)) for each in payloads), end=True)
    assert [echoed_on_stream(each) for each in large.answer(stream).messages()] == payloads


def test_large_frames_in_small_writes(large: Peer) -> None:
    sent = message(echo_request(LARGE[:600_000]))
    cut = min(large.frame_bytes, 350_000)
    stream = large.start(head(INFER))
    out = b"".join(
        frame(Kind.DATA, END_STREAM if at + cut >= len(sent) else 0, stream, sent[at : at + cut])
        for at in range(0, len(sent), cut)
    )
    assert len(sent) < large._room(stream)
    sizes = itertools.cycle([1, 8, 70_000, 3, 5, 131_072, 9, 40_000])
    at = 0
    while at < len(out):
        size = next(sizes)
        large.send(out[at : at + size])
        at += size
    [answer] = large.answer(stream).messages()
    assert echoed(answer) == LARGE[:600_000]


@pytest.mark.parametrize("how", ["reset", "closed", "goes-on"])
def test_a_large_frame_whose_stream_ends_within_it(
    running: Served, large: Peer, transport: str, how: str
) -> None:
    """Half a frame has come when the server refuses the call at its deadline, or the client has gone."""
    if how != "closed":
        own(transport, "ends the connection")
    tasks = running.tasks() if how == "closed" else 0
    stream = large.start(head(INFER, grpc_timeout="50m"))
    sent = message(echo_request(LARGE))[:200_000]
    size = min(len(sent), large.frame_bytes)
    whole = frame(Kind.DATA, 0, stream, sent[:size])
    large.send(whole[: size // 2])
    if how == "closed":
        large.socket.close()
        running.calms_down(tasks)
        return
    assert large.answer(stream).status == 4
    large.send(whole[size // 2 :])
    if how == "reset":
        large.send(reset(stream))
    [answer] = large.call(INFER, echo_request(LARGE)).messages()
    assert echoed(answer) == LARGE
