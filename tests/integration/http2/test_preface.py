"""How a connection begins: the preface, byte by byte or wrong, and both sides' settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.http2_peer import (
    ACK,
    MAX_WINDOW,
    PREFACE,
    Code,
    Kind,
    Peer,
    Setting,
    frame,
    setting_pairs,
    settings,
)
from support.http2_served import ends, lives

if TYPE_CHECKING:
    from support.http2_served import Served


def test_the_first_frame_is_settings_and_ours_are_acknowledged(running: Served) -> None:
    with Peer(running.address) as peer:
        first = peer.read()
        assert first is not None
        assert first.kind == Kind.SETTINGS
        assert not first.flags & ACK
        peer.settled()
        lives(peer)


def test_the_servers_settings_are_legal(peer: Peer) -> None:
    assert peer.settings.get(Setting.ENABLE_PUSH, 0) == 0
    assert peer.settings.get(Setting.INITIAL_WINDOW_SIZE, 65_535) <= MAX_WINDOW
    assert 16_384 <= peer.settings.get(Setting.MAX_FRAME_SIZE, 16_384) <= 2**24 - 1


def test_a_preface_may_come_byte_by_byte(running: Served) -> None:
    with Peer(running.address, greet=False) as peer:
        for byte in PREFACE + settings({Setting.INITIAL_WINDOW_SIZE: 70_000}):
            peer.send(bytes([byte]))
        lives(peer.settled())


@pytest.mark.parametrize(
    "opening",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /x HTTP/1.0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # TLS says hello
        PREFACE[:-2] + b"\r\r" + settings(),
        b"pri * http/2.0\r\n\r\nsm\r\n\r\n" + settings(),
        bytes(24),
        settings() + PREFACE,
        b"\r\n" + PREFACE + settings(),
    ],
    ids=["get", "post", "tls", "last-byte", "lower-case", "zeros", "settings-first", "newline-first"],
)
def test_what_is_no_preface_ends_the_connection(running: Served, opening: bytes) -> None:
    with Peer(running.address, greet=False) as peer:
        peer.send(opening)
        assert peer.end() in (None, Code.PROTOCOL_ERROR)


@pytest.mark.parametrize("length", [0, 1, 10, len(PREFACE) - 1, len(PREFACE), len(PREFACE) + 5])
def test_a_client_that_leaves_in_the_middle_of_the_preface_is_forgotten(running: Served, length: int) -> None:
    before = running.tasks()
    with Peer(running.address, greet=False) as peer:
        peer.send((PREFACE + settings())[:length])
    running.calms_down(before)


def test_something_else_than_settings_after_the_preface_ends_the_connection(
    running: Served, transport: str
) -> None:
    with Peer(running.address, greet=False) as peer:
        peer.send(PREFACE + frame(Kind.PING, payload=bytes(8)))
        ends(peer, transport, Code.PROTOCOL_ERROR)


def test_unknown_settings_are_ignored_and_acknowledged(peer: Peer) -> None:
    acks = peer.settings_acks
    peer.send(settings({0: 1, 7: 2, 0x4242: 2**32 - 1, 0xFFFF: 0}))
    peer.acknowledged(acks + 1)
    lives(peer)


def test_each_settings_frame_is_acknowledged(peer: Peer) -> None:
    acks = peer.settings_acks
    peer.send(settings() * 5 + settings({Setting.HEADER_TABLE_SIZE: 0}) * 5)
    peer.acknowledged(acks + 10)
    lives(peer)


def test_a_setting_may_be_given_twice_in_a_frame_and_the_last_holds(peer: Peer) -> None:
    size = Setting.INITIAL_WINDOW_SIZE
    peer.grants = False
    peer.our_window = 70_000
    peer.send(setting_pairs([(size, 0), (size, 70_000)]))
    lives(peer)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        (Setting.INITIAL_WINDOW_SIZE, MAX_WINDOW + 1, Code.FLOW_CONTROL_ERROR),
        (Setting.INITIAL_WINDOW_SIZE, 2**32 - 1, Code.FLOW_CONTROL_ERROR),
        (Setting.MAX_FRAME_SIZE, 16_383, Code.PROTOCOL_ERROR),
        (Setting.MAX_FRAME_SIZE, 0, Code.PROTOCOL_ERROR),
        (Setting.MAX_FRAME_SIZE, 2**24, Code.PROTOCOL_ERROR),
        (Setting.ENABLE_PUSH, 2, Code.PROTOCOL_ERROR),
    ],
)
def test_a_setting_beyond_its_bounds_ends_the_connection(
    peer: Peer, transport: str, name: int, value: int, code: Code
) -> None:
    peer.send(settings({name: value}))
    ends(peer, transport, code)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(Kind.SETTINGS, ACK, 0, bytes(6)), Code.FRAME_SIZE_ERROR),
        (frame(Kind.SETTINGS, 0, 0, bytes(5)), Code.FRAME_SIZE_ERROR),
        (frame(Kind.SETTINGS, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
        (frame(Kind.SETTINGS, 0, 1, bytes(6)), Code.PROTOCOL_ERROR),
        (frame(Kind.SETTINGS, ACK, 3), Code.PROTOCOL_ERROR),
    ],
    ids=["ack-with-payload", "short", "long", "on-a-stream", "ack-on-a-stream"],
)
def test_settings_frames_of_a_wrong_form_end_the_connection(
    peer: Peer, transport: str, sent: bytes, code: Code
) -> None:
    peer.send(sent)
    ends(peer, transport, code)
