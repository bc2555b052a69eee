"""Clients that mean harm, beside floods: what they leave unread, claim or never answer harms nobody else."""

from __future__ import annotations

import gzip
import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import pytest
from support.http2_peer import (
    END_HEADERS,
    END_STREAM,
    Code,
    Kind,
    Peer,
    Setting,
    frame,
    head,
    indexed_literals,
    message,
    ping,
    setting_pairs,
)
from support.http2_served import INFER, LIVE, STREAM, echo_request, lives, own, served

from naiad.services.http2 import connection, messages
from naiad.services.http2.call import SMALL_PACKED_BYTES
from naiad.services.http2.server import MAX_INFLATING

if TYPE_CHECKING:
    from pathlib import Path

    from support.http2_served import Served

    from naiad.services.http2.server import Http2Server

MIB = 2**20
REFUSED = ("a!" + "b" * 3_500, "c")
"""A header that no call may have, and that is quoted: an index of a byte is worth an answer of kilobytes."""


def _connections(running: Served) -> set[connection.Connection]:
    grpc = running.server._grpc
    assert grpc is not None
    transport: Http2Server = grpc._server  # type: ignore[assignment]  # what the tests here ask for
    return transport._connections


def _heads(*more: tuple[str, str]) -> tuple[bytes, bytes]:
    """A block that fills the dynamic table, and the block of indices that repeats it."""
    fields = head(LIVE, *more)
    return indexed_literals(fields), bytes(0x80 | (62 + len(fields) - 1 - n) for n in range(len(fields)))


def test_a_client_that_takes_its_time_with_a_large_message_may_ping(running: Served) -> None:
    """What it has not read of the message is the server's frame, and no sign of a flood."""
    values: dict[int, int] = {Setting.INITIAL_WINDOW_SIZE: 2**30, Setting.MAX_FRAME_SIZE: 4 * MIB}
    with Peer(running.address, values, receive_buffer=65_536) as peer:
        peer.settled()
        peer.grant(0, 2**30)
        sent = bytes(12 * MIB)
        stream = peer.request(INFER, echo_request(sent))
        running.until(lambda: not running.calls())
        peer.send(ping() * 3)
        answer = peer.answer(stream)
        assert answer.status == 0
        assert len(answer.data) > len(sent)
        peer.pinged()


def test_refusals_that_nobody_reads_do_not_pile_up(running: Served, transport: str) -> None:
    """A head of ten bytes is refused with 3.5 KB; a client that only sends them is sent away."""
    own(transport, "bounds it in ways of its own")
    first, again = _heads(REFUSED)
    with Peer(running.address, limit_s=5, receive_buffer=4_096) as peer:
        peer.socket.sendall(frame(Kind.HEADERS, END_HEADERS | END_STREAM, 1, first))
        calls = (
            frame(Kind.HEADERS, END_HEADERS | END_STREAM, stream, again) for stream in range(3, 200_001, 2)
        )
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            deque(map(peer.socket.sendall, calls), maxlen=0)


def test_messages_of_nothing_that_wait_to_be_read_use_the_window_up(running: Served, transport: str) -> None:
    """Their call waits for a client that takes no answer: what waits behind takes memory, and is bounded."""
    own(transport, "bounds it in ways of its own")
    part = message(b"") * 3_000
    with Peer(running.address, {Setting.INITIAL_WINDOW_SIZE: 0}, limit_s=1.0) as peer:
        peer.settled()
        stream = peer.start(head(STREAM))
        with pytest.raises(TimeoutError):  # nothing comes that would let it send on
            peer.send_data(stream, part * (8 * MIB // len(part)))
        assert peer.send_windows[stream] == 0
    running.until(lambda: not running.calls())


def test_a_window_that_is_named_often_changes_the_streams_once(running: Served, transport: str) -> None:
    """Naming it 2,700 times in a frame, with 2,000 streams open, cost over a second before."""
    own(transport, "is not asked for its time")
    first, again = indexed_literals(head(STREAM)), bytes(0x80 | (62 + 6 - n) for n in range(7))
    with Peer(running.address, limit_s=60) as peer:
        peer.settled()
        opened = [frame(Kind.HEADERS, END_HEADERS, number, again) for number in range(3, 4_001, 2)]
        peer.send(frame(Kind.HEADERS, END_HEADERS, 1, first) + b"".join(opened))
        peer.pinged()
        began = time.process_time()
        peer.send(setting_pairs((Setting.INITIAL_WINDOW_SIZE, 65_535 + n % 2) for n in range(2_700)))
        peer.acknowledged(2)
        assert time.process_time() - began < 0.3
    running.until(lambda: not running.calls())


def test_a_window_over_the_limit_ends_the_connection_though_a_smaller_one_follows(running: Served) -> None:
    with Peer(running.address) as peer:
        peer.settled()
        peer.send(
            setting_pairs([(Setting.INITIAL_WINDOW_SIZE, 2**31), (Setting.INITIAL_WINDOW_SIZE, 65_535)])
        )
        assert peer.end() in (Code.FLOW_CONTROL_ERROR, None)


def test_an_old_connection_ends_though_its_client_answers_no_ping(
    folder: Path, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ping behind the announcement of the end is never answered: the end comes all the same."""
    own(transport, "waits for 20 seconds")
    monkeypatch.setattr(connection, "DRAIN_S", 0.1)
    with (
        served(folder, transport, grpc_max_connection_age=100).running() as running,
        Peer(running.address, auto=False) as peer,
    ):
        assert peer.call(LIVE, b"").status == 0
        assert peer.end() == Code.NO_ERROR
        assert [last for last, _, _ in peer.goaways[:2]] == [2**31 - 1, 1]


def test_a_closed_connection_goes_though_its_client_does_not_read_the_rest(
    running: Served, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some kilobytes wait in the transport, too few for it to ask for a pause; the client breaks a rule."""
    own(transport, "bounds it in ways of its own")
    monkeypatch.setattr(connection, "CLOSE_S", 0.1)
    first, again = _heads(REFUSED)
    with Peer(running.address, receive_buffer=4_096) as peer:
        peer.settled()
        (ours,) = _connections(running)

        def waiting() -> int:
            return running.on_loop(ours._transport.get_write_buffer_size)

        peer.send(frame(Kind.HEADERS, END_HEADERS | END_STREAM, 1, first))
        stream = 1
        while not waiting():
            stream += 2
            peer.send(frame(Kind.HEADERS, END_HEADERS | END_STREAM, stream, again))
        assert waiting() < 65_536
        peer.send(frame(Kind.PUSH_PROMISE, 0, 1, bytes(4)))
        running.until(lambda: not _connections(running))


def test_a_damaged_message_of_a_stream_is_no_error_of_the_servers(running: Served, transport: str) -> None:
    """The client is told, its call is over, and nothing is logged (which `running` looks at)."""
    own(transport, "has another word for it")
    with Peer(running.address) as peer:
        peer.settled()
        stream = peer.start(head(STREAM, grpc_encoding="gzip"))
        peer.send_data(stream, message(echo_request(b"a")) + message(b"no gzip", 1))
        answer = peer.answer(stream)
        assert (answer.status, answer.text) == (13, "Decompression failed due to zlib error")
        lives(peer)
    running.until(lambda: not running.calls())


def test_many_calls_may_meet_their_deadline_while_their_data_is_on_its_way(running: Served) -> None:
    """Data of streams that the server has ended is no fault of the client, however many they are."""
    with Peer(running.address) as peer:
        peer.settled()
        streams = [peer.start(head(STREAM, grpc_timeout="300m")) for _ in range(1_500)]
        assert all(peer.answer(stream).over for stream in streams)
        peer.send(b"".join(frame(Kind.DATA, END_STREAM, stream, message(b"")) for stream in streams))
        lives(peer)


def test_few_large_compressed_messages_are_inflated_at_a_time(
    running: Served, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may take gigabytes and a thread; a small one does not wait behind them."""
    own(transport, "inflates on threads of its own")
    inflate, free = messages.decompress, threading.Event()
    at_work: list[int] = []
    peak: list[int] = []

    def held(data: messages.Message, encoding: str, max_bytes: int) -> bytes:
        if len(data) > SMALL_PACKED_BYTES:
            at_work.append(1)
            peak.append(len(at_work))
            free.wait(10)
            at_work.pop()
        return inflate(data, encoding, max_bytes)

    monkeypatch.setattr(messages, "decompress", held)
    sent = random.Random(1).randbytes(2 * SMALL_PACKED_BYTES)
    with Peer(running.address) as peer:
        peer.settled()
        large = gzip.compress(echo_request(sent))
        streams = []
        for _ in range(5):
            streams.append(peer.start(head(INFER, grpc_encoding="gzip")))
            peer.send_data(streams[-1], message(large, 1), end=True)
        small = peer.start(head(INFER, grpc_encoding="gzip"))
        peer.send_data(small, message(gzip.compress(echo_request(b"a")), 1), end=True)
        assert peer.answer(small).status == 0
        free.set()
        assert [peer.answer(stream).status for stream in streams] == [0] * 5
    assert max(peak) == MAX_INFLATING
