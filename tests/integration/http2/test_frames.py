"""Frames of wrong sizes, of unknown kinds and with unknown flags."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from support.http2_peer import (
    END_HEADERS,
    END_STREAM,
    MAX_FRAME,
    PADDED,
    PRIORITISED,
    Code,
    Kind,
    Peer,
    Setting,
    frame,
    head,
    literals,
    message,
    ping,
    window,
)
from support.http2_served import INFER, IS_LIVE, LIVE, echo_request, echoed, ends, lives, own

if TYPE_CHECKING:
    from support.http2_served import Served


@pytest.mark.parametrize(
    ("sent", "codes"),
    [
        (frame(Kind.PING, 0, 0, bytes(7)), [Code.FRAME_SIZE_ERROR]),
        (frame(Kind.PING, 0, 0, bytes(9)), [Code.FRAME_SIZE_ERROR]),
        (frame(Kind.PING), [Code.FRAME_SIZE_ERROR]),
        (frame(Kind.PING, 0, 1, bytes(8)), [Code.PROTOCOL_ERROR]),
        (frame(Kind.WINDOW_UPDATE, 0, 0, bytes(3)), [Code.FRAME_SIZE_ERROR]),
        (frame(Kind.WINDOW_UPDATE, 0, 0, bytes(5)), [Code.FRAME_SIZE_ERROR]),
        (frame(Kind.GOAWAY, 0, 0, bytes(7)), [Code.FRAME_SIZE_ERROR]),
        (frame(Kind.GOAWAY, 0, 1, bytes(8)), [Code.PROTOCOL_ERROR]),
        (frame(Kind.RST_STREAM, 0, 0, bytes(4)), [Code.PROTOCOL_ERROR]),
        (frame(Kind.DATA, 0, 0, b"x"), [Code.PROTOCOL_ERROR]),
        (frame(Kind.HEADERS, END_HEADERS, 0, literals(head(LIVE))), [Code.PROTOCOL_ERROR]),
        (frame(Kind.CONTINUATION, END_HEADERS, 0, b""), [Code.PROTOCOL_ERROR]),
        (frame(Kind.PUSH_PROMISE, END_HEADERS, 1, bytes(4)), [Code.PROTOCOL_ERROR]),
    ],
    ids=[
        "ping-7", "ping-9", "ping-0", "ping-on-a-stream", "window-3", "window-5", "goaway-7", "goaway-on-a-stream",
        "reset-of-the-connection", "data-of-the-connection", "headers-of-the-connection",
        "continuation-of-the-connection", "push",
    ],
)  # fmt: skip
def test_a_frame_of_a_wrong_size_or_place_ends_the_connection(
    peer: Peer, transport: str, sent: bytes, codes: list[Code]
) -> None:
    at_wrong_place = bool(sent[8]) != (sent[3] in (Kind.RST_STREAM, Kind.DATA, Kind.HEADERS))
    if at_wrong_place or sent[3] == Kind.PUSH_PROMISE:
        own(transport, "looks at no stream's id where there should be none, or one, and skips a push")
    peer.send(sent)
    ends(peer, transport, *codes)


@pytest.mark.parametrize(
    ("sent", "codes"),
    [
        (frame(Kind.RST_STREAM, 0, 1, bytes(3)), [Code.FRAME_SIZE_ERROR]),
        (frame(Kind.RST_STREAM, 0, 1, bytes(5)), [Code.FRAME_SIZE_ERROR]),
        (frame(Kind.WINDOW_UPDATE, 0, 1, bytes(3)), [Code.FRAME_SIZE_ERROR]),
        (frame(Kind.PRIORITY, 0, 0, bytes(5)), [Code.PROTOCOL_ERROR]),
        (frame(Kind.DATA, PADDED, 1, b"\x05abcd"), [Code.PROTOCOL_ERROR]),
        (frame(Kind.DATA, PADDED, 1, b"\x05abcde"[:5]), [Code.PROTOCOL_ERROR]),
        (frame(Kind.DATA, PADDED, 1), [Code.FRAME_SIZE_ERROR, Code.PROTOCOL_ERROR]),
    ],
    ids=[
        "reset-3", "reset-5", "window-3", "priority-of-the-connection", "padding-beyond", "padding-whole",
        "padding-missing",
    ],
)  # fmt: skip
def test_a_frame_of_a_wrong_size_on_an_open_stream_ends_the_connection(
    peer: Peer, transport: str, sent: bytes, codes: list[Code]
) -> None:
    if sent[3] == Kind.PRIORITY or sent[4] & PADDED:
        own(transport, "looks at no priority and knows no padding of DATA")
    assert peer.start(head(LIVE)) == 1
    peer.send(sent)
    ends(peer, transport, *codes)


@pytest.mark.parametrize("length", [0, 4, 6])
def test_priority_of_a_wrong_size_ends_the_stream_or_more(peer: Peer, transport: str, length: int) -> None:
    peer.start(head(LIVE))
    peer.send(frame(Kind.PRIORITY, 0, 1, bytes(length)))
    if transport == "grpcio":
        peer.send(frame(Kind.DATA, END_STREAM, 1, message(b"")))
        assert peer.answer(1).status == 0  # core does not look
    else:
        assert peer.fate(1) in ("reset FRAME_SIZE_ERROR", "goaway FRAME_SIZE_ERROR")


@pytest.mark.parametrize(
    "kind", [Kind.DATA, Kind.HEADERS, Kind.SETTINGS, Kind.CONTINUATION, Kind.GOAWAY, 0x42]
)
def test_a_frame_larger_than_the_servers_limit_ends_the_connection(
    peer: Peer, transport: str, kind: int
) -> None:
    """Told at its head: the payload is never waited for."""
    if kind == 0x42:
        own(transport, "skips what it does not know, however long")
    largest = peer.settings.get(Setting.MAX_FRAME_SIZE, MAX_FRAME)
    stream = 0 if kind in (Kind.SETTINGS, Kind.GOAWAY) else peer.start(head(LIVE))
    if kind == Kind.CONTINUATION:
        stream = peer.take_stream()
        peer.send(frame(Kind.HEADERS, 0, stream, literals(head(LIVE))))
    elif kind == Kind.HEADERS:
        stream = peer.take_stream()
    peer.send(frame(kind, 0, stream, length=largest + 1))
    ends(peer, transport, Code.FRAME_SIZE_ERROR)


def test_frames_as_large_as_the_limit_are_taken(peer: Peer) -> None:
    """The server may take more than the protocol's least, if it says so."""
    size = min(peer.settings.get(Setting.MAX_FRAME_SIZE, MAX_FRAME), peer.settings.get(4, 65_535), 65_535)
    data = bytes(range(256)) * 300
    sent = message(echo_request(data))
    stream = peer.start(head(INFER))
    peer.send(frame(Kind.DATA, 0, stream, sent[:size]))
    peer.send_window -= size
    peer.send_windows[stream] = peer.settings.get(4, 65_535) - size
    peer.send_data(stream, sent[size:], end=True)
    [answer] = peer.answer(stream).messages()
    assert echoed(answer) == data


@pytest.mark.parametrize("kind", [0x0A, 0x0C, 0x42, 0xFF])
@pytest.mark.parametrize("length", [0, 1, 9, 16_384])
def test_frames_of_unknown_kinds_are_skipped(peer: Peer, transport: str, kind: int, length: int) -> None:
    """On the connection, on a stream that is idle, open or over; whatever their flags."""
    for stream in (0, 1, 2, 99):
        peer.send(frame(kind, 0xFF, stream, b"\xa5" * length))
    stream = peer.start(head(LIVE))
    peer.send(frame(kind, 0xFF, stream, b"\xa5" * length))
    peer.send_data(stream, message(b""), end=True)
    assert peer.answer(stream).messages() == [IS_LIVE]
    peer.send(frame(kind, 0xFF, stream, b"\xa5" * length))
    lives(peer)


def test_an_unknown_frame_amid_a_header_block_ends_the_connection(peer: Peer, transport: str) -> None:
    block = literals(head(LIVE))
    peer.send(
        frame(Kind.HEADERS, 0, 1, block[:20]) + frame(0x42, 0, 1) + frame(Kind.CONTINUATION, 4, 1, block[20:])
    )
    ends(peer, transport, Code.PROTOCOL_ERROR)


def test_unknown_flags_are_ignored(peer: Peer, transport: str) -> None:
    own(transport, "ends the connection for flags that a kind of frame does not have")
    block = literals(head(LIVE))
    peer.send(frame(Kind.PING, 0xFE, 0, b"flagged."))
    peer.send(frame(Kind.SETTINGS, 0xFE))
    peer.send(frame(Kind.WINDOW_UPDATE, 0xFF, 0, struct.pack(">I", 1)))
    peer.send(frame(Kind.HEADERS, 0xFF & ~(PADDED | PRIORITISED | END_STREAM), 1, block))
    peer.send(frame(Kind.DATA, 0xFF & ~(PADDED | END_STREAM), 1, message(b"")))
    peer.send(frame(Kind.DATA, 0xFF & ~PADDED, 1))
    assert peer.answer(1).messages() == [IS_LIVE]
    while b"flagged." not in peer.pongs:
        peer.read()


def test_the_reserved_bit_of_a_streams_id_and_of_an_increment_is_ignored(peer: Peer) -> None:
    top = 2**31
    peer.send(frame(Kind.HEADERS, END_HEADERS, 1 | top, literals(head(LIVE))))
    peer.send(window(1, 5 | top) + window(top, 5 | top))
    peer.send(frame(Kind.DATA, END_STREAM, 1 | top, message(b"")))
    assert peer.answer(1).messages() == [IS_LIVE]


@pytest.mark.parametrize("padding", [0, 1, 200, 255])
def test_padding_is_no_part_of_anything(peer: Peer, transport: str, padding: int) -> None:
    own(transport, "takes padding for part of what is padded")
    block, data = literals(head(LIVE)), message(b"")
    stream = peer.take_stream()
    pad = bytes(padding)
    peer.send(frame(Kind.HEADERS, END_HEADERS | PADDED, stream, bytes([padding]) + block + pad))
    for at in range(len(data)):
        peer.send(frame(Kind.DATA, PADDED, stream, bytes([padding]) + data[at : at + 1] + pad))
    peer.send(frame(Kind.DATA, PADDED | END_STREAM, stream, bytes([padding]) + pad))
    assert peer.answer(stream).messages() == [IS_LIVE]


@pytest.mark.parametrize("on", ["padded", "prioritised", "both"])
def test_headers_may_carry_padding_and_a_priority(peer: Peer, transport: str, on: str) -> None:
    if on != "prioritised":
        own(transport, "takes padding for part of what is padded")
    flags, payload = END_HEADERS, literals(head(LIVE))
    if on != "padded":
        flags, payload = flags | PRIORITISED, struct.pack(">IB", 2**31 | 33, 7) + payload
    if on != "prioritised":
        flags, payload = flags | PADDED, b"\x03" + payload + bytes(3)
    peer.send(frame(Kind.HEADERS, flags, 1, payload) + frame(Kind.DATA, END_STREAM, 1, message(b"")))
    assert peer.answer(1).messages() == [IS_LIVE]


@pytest.mark.parametrize(
    ("flags", "payload"),
    [
        (PADDED, b""),
        (PADDED, b"\x05abc"),
        (PADDED | PRIORITISED, b"\x00" + bytes(4)),
        (PADDED | PRIORITISED, b"\x01" + bytes(5)),
        (PRIORITISED, bytes(4)),
    ],
)
def test_headers_too_short_for_their_padding_or_priority_end_the_connection(
    peer: Peer, transport: str, flags: int, payload: bytes
) -> None:
    if flags & PADDED or len(payload) < 5:
        own(transport, "takes padding for part of what is padded, and waits for the rest of a priority")
    peer.send(frame(Kind.HEADERS, END_HEADERS | flags, 1, payload))
    ends(peer, transport, Code.PROTOCOL_ERROR, Code.FRAME_SIZE_ERROR)


def test_padding_counts_for_flow_control_and_is_given_back(running: Served, transport: str) -> None:
    """One stream sends more padding than any window holds; only what is given back lets it go on."""
    own(transport, "knows no padding of DATA")
    with Peer(running.address) as peer:
        peer.settled()
        stream = peer.start(head(LIVE))
        for _ in range(400):
            room = 256
            while peer._room(stream) < room:
                assert peer.read() is not None
            peer.send_window -= room
            peer.send_windows[stream] -= room
            peer.send(frame(Kind.DATA, PADDED, stream, b"\xff" + bytes(255)))
        peer.send_data(stream, message(b""), end=True)
        assert peer.answer(stream).messages() == [IS_LIVE]


def test_pings_are_answered_with_their_own_bytes_in_order(peer: Peer) -> None:
    sent = [bytes([each]) * 8 for each in range(20)]
    peer.send(b"".join(map(ping, sent)))
    while len(peer.pongs) < len(sent):
        assert peer.read() is not None
    assert peer.pongs == sent


def test_an_answer_to_no_ping_is_ignored(peer: Peer, transport: str) -> None:
    peer.send(frame(Kind.PING, 1, 0, b"unasked."))
    lives(peer)
