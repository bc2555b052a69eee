"""Floods: whatever a client sends without end, the server's memory stays and others are answered meanwhile."""

from __future__ import annotations

import gc
import resource
import struct
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.http2_peer import (
    ACK,
    END_HEADERS,
    END_STREAM,
    Code,
    Kind,
    Peer,
    Setting,
    frame,
    head,
    indexed_literals,
    literals,
    message,
    ping,
    reset,
    setting_pairs,
    settings,
    window,
)
from support.http2_served import LIVE, STREAM, echo_request, lives, own

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.http2_served import Served

MIB = 2**20
FLOOD_S = 1.0
MANY = 100_000


def resident() -> int:
    """Bytes of this process's memory, server and client."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@contextmanager
def weathered(running: Served, *, within: int = 48 * MIB) -> Iterator[Peer]:
    """A client that floods and does not read; meanwhile and after another is answered, and memory stays."""
    gc.collect()
    tasks, before = running.tasks(), resident()
    with Peer(running.address) as other:
        lives(other.settled())
        with Peer(running.address, limit_s=0.5) as peer:
            yield peer
            lives(other)
            assert resident() - before < within
        lives(other)
    running.calms_down(tasks)


def poured(peer: Peer, part: bytes, times: int) -> int:
    """Send a part again and again, until the server takes no more; returns how often it was taken."""
    until = time.monotonic() + FLOOD_S
    for count in range(times):
        try:
            peer.socket.sendall(part)
        except (TimeoutError, ConnectionError):
            return count
        if time.monotonic() > until:
            return count + 1
    return times


HEAD = literals(head(LIVE))

FLOODS = {
    "ping": ping() * 1_000,
    "settings": settings({Setting.INITIAL_WINDOW_SIZE: 65_535}) * 1_000,
    "settings-empty": settings() * 1_000,
    "settings-ack": frame(Kind.SETTINGS, ACK) * 1_000,
    "settings-many": setting_pairs([(Setting.INITIAL_WINDOW_SIZE, n) for n in range(2_500)]) * 8,
    "ping-ack": frame(Kind.PING, ACK, 0, bytes(8)) * 1_000,
    "priority": b"".join(frame(Kind.PRIORITY, 0, n, struct.pack(">IB", 0, 1)) for n in range(3, 2_003, 2)),
    "window": window(0, 1) * 1_000,
    "window-closed": window(1, 1) * 1_000,
    "unknown": frame(0x42) * 1_000,
    "unknown-large": frame(0x42, 0, 0, bytes(16_384)) * 8,
    "reset-closed": reset(1) * 1_000,
    "goaway": frame(Kind.GOAWAY, 0, 0, bytes(8)) * 1_000,
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_frames_that_ask_for_little(running: Served, kind: str) -> None:
    with weathered(running) as peer:
        assert peer.call(LIVE, b"").status == 0
        poured(peer, FLOODS[kind], 100)


FRUITLESS = [
    "settings-empty",
    "settings-ack",
    "ping-ack",
    "priority",
    "window",
    "unknown",
    "reset-closed",
    "goaway",
]


@pytest.mark.parametrize("kind", FRUITLESS)
def test_a_client_that_sends_nothing_but_such_frames_is_sent_away(
    peer: Peer, transport: str, kind: str
) -> None:
    """It reads whatever it is told, so nothing piles up; it costs time all the same."""
    own(transport, "has patience without end")
    assert peer.call(LIVE, b"").status == 0
    for _ in range(100):
        peer.send(FLOODS[kind])
    assert peer.end() == Code.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("path", [LIVE, STREAM])
@pytest.mark.parametrize("padding", [None, 0, 255])
def test_a_flood_of_data_that_is_nothing(
    running: Served, transport: str, path: str, padding: int | None
) -> None:
    if padding is not None:
        own(transport, "knows no padding of DATA")
    part = frame(Kind.DATA, 0, 1)
    if padding is not None:
        part = frame(Kind.DATA, 8, 1, bytes([padding]) + bytes(padding))
    with weathered(running) as peer:
        assert peer.start(head(path)) == 1
        poured(peer, part * 1_000, 100)


def test_a_flood_of_empty_messages_is_answered_as_it_is_read(running: Served) -> None:
    """Each message of five bytes is worth an answer ten times as long, which nobody reads."""
    with weathered(running) as peer:
        stream = peer.start(head(STREAM))
        peer.send_window = peer.send_windows[stream] = 2**40
        poured(peer, frame(Kind.DATA, 0, stream, message(b"") * 3_000), 300)


def indexed_head(path: str, start: int) -> tuple[bytes, bytes]:
    """A block that fills the dynamic table with a head, and the block of indices that repeats it."""
    fields = head(path)
    count = len(fields)
    assert start == 0
    return indexed_literals(fields), bytes(0x80 | (62 + count - 1 - n) for n in range(count))


@pytest.mark.parametrize("path", [LIVE, STREAM, "/no.Such/Method"])
def test_rapid_resets_of_streams_harm_nobody(running: Served, transport: str, path: str) -> None:
    """Up to 100,000 pairs of HEADERS and RST_STREAM, each as short as HPACK makes it."""
    # Each of a stream's calls is begun, and takes the server some tenths of a millisecond.
    pairs = MANY // 4 if path == STREAM else MANY
    if transport != "naiad":
        pairs = 500  # while thousands wait, core turns others away
    first, again = indexed_head(path, 0)
    with weathered(running, within=64 * MIB) as peer:
        peer.settled()
        peer.send(frame(Kind.HEADERS, END_HEADERS, 1, first) + reset(1))
        batch = bytearray()
        for stream in range(3, 2 * pairs + 1, 2):
            batch += frame(Kind.HEADERS, END_HEADERS, stream, again) + reset(stream)
            if len(batch) > 60_000:
                if not poured(peer, bytes(batch), 1):
                    break
                batch.clear()


def test_rapid_resets_by_the_servers_own_hand(running: Served, transport: str) -> None:
    """The client makes the server reset: each stream gets a WINDOW_UPDATE of nothing."""
    own(transport, "ends the connection")
    first, again = indexed_head(STREAM, 0)
    with weathered(running) as peer:
        peer.settled()
        peer.send(frame(Kind.HEADERS, END_HEADERS, 1, first) + window(1, 0))
        batch = bytearray()
        for stream in range(3, MANY // 2 + 1, 2):
            batch += frame(Kind.HEADERS, END_HEADERS, stream, again) + window(stream, 0)
            if len(batch) > 60_000:
                if not poured(peer, bytes(batch), 1):
                    break
                batch.clear()


@pytest.mark.parametrize("path", [LIVE, "/no.Such/Method"])
def test_a_client_that_asks_and_never_reads(running: Served, transport: str, path: str) -> None:
    """Whole calls without end; their answers fill the kernel's buffers, then the server must stop taking calls."""
    calls = MANY if transport == "naiad" else 500
    first, again = indexed_head(path, 0)
    with weathered(running, within=64 * MIB) as peer:
        body = message(b"")
        peer.send(frame(Kind.HEADERS, END_HEADERS, 1, first) + frame(Kind.DATA, END_STREAM, 1, body))
        batch = bytearray()
        for stream in range(3, 2 * calls + 1, 2):
            batch += frame(Kind.HEADERS, END_HEADERS, stream, again) + frame(
                Kind.DATA, END_STREAM, stream, body
            )
            if len(batch) > 60_000:
                if not poured(peer, bytes(batch), 1):
                    break
                batch.clear()


def test_heads_without_end_are_bounded(running: Served, transport: str) -> None:
    """Streams that are only opened: beyond the announced number none is kept."""
    own(transport, "turns away other clients' calls while thousands wait to be handed over")
    first, again = indexed_head(STREAM, 0)
    with weathered(running, within=96 * MIB) as peer:
        peer.settled()
        limit = peer.settings.get(Setting.MAX_CONCURRENT_STREAMS, 100)
        peer.send(frame(Kind.HEADERS, END_HEADERS, 1, first))
        opened = [
            frame(Kind.HEADERS, END_HEADERS, stream, again) for stream in range(3, 2 * limit + 2_001, 2)
        ]
        poured(peer, b"".join(opened), 1)
        running.until(lambda: running.calls() <= limit)


def test_many_connections_that_say_nothing_hold_up_nobody(running: Served) -> None:
    """Sockets that never send a preface, beside one that works."""
    tasks = running.tasks()
    silent = [Peer(running.address, greet=False) for _ in range(200)]
    try:
        with Peer(running.address) as peer:
            for _ in range(10):
                lives(peer)
    finally:
        for each in silent:
            each.socket.close()
    running.calms_down(tasks)


def test_a_slow_client_costs_nobody_else(running: Served) -> None:
    """One sends a call byte by byte; between every two bytes another has a whole call."""
    sent = frame(Kind.HEADERS, END_HEADERS, 1, HEAD) + frame(Kind.DATA, END_STREAM, 1, message(b""))
    with Peer(running.address) as slow, Peer(running.address) as other:
        slow.settled()
        for byte in sent:
            slow.send(bytes([byte]))
            lives(other)
        assert slow.answer(1).status == 0


def test_many_large_messages_that_are_never_whole_are_bounded(running: Served) -> None:
    """100 streams claim 16 MB each and send a kilobyte: memory follows what came, not what was claimed."""
    with weathered(running, within=100 * MIB) as peer:
        peer.settled()
        for _ in range(100):
            stream = peer.start(head(STREAM))
            peer.send_data(stream, b"\0" + (16 * MIB).to_bytes(4, "big") + bytes(1_000))
        peer.pinged()


def test_a_client_may_be_busy_without_being_a_flood(running: Served) -> None:
    """A steady client with many small calls, pings between and settings now and then is never sent away."""
    with Peer(running.address) as peer:
        peer.settled()
        for turn in range(300):
            peer.pinged(turn.to_bytes(8, "big"))
            if turn % 10 == 0:
                peer.set({Setting.INITIAL_WINDOW_SIZE: 65_535 + turn})
            stream = peer.start(head(STREAM))
            peer.send_data(stream, message(echo_request(b"a")))
            peer.send(reset(stream) if turn % 2 else frame(Kind.DATA, END_STREAM, stream))
        lives(peer)
        assert not peer.goaways


@pytest.mark.parametrize("code", [Code.CANCEL])
def test_a_client_that_cancels_much_but_reads_is_served(running: Served, code: Code) -> None:
    """2,000 calls that are cancelled as callers with short patience do, some answered in time."""
    with Peer(running.address) as peer:
        peer.settled()
        for turn in range(2_000):
            stream = peer.start(head(STREAM))
            peer.send(reset(stream, code))
            if turn % 50 == 0:
                lives(peer)
        assert not peer.goaways
