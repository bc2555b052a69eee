"""How connections live and end: pings, GOAWAY, half-closed sockets, the server's stop, ages, keepalive, limits."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.gates import RunGate
from support.http2_peer import (
    END_STREAM,
    Code,
    Kind,
    Peer,
    Setting,
    frame,
    head,
    message,
    ping,
)
from support.http2_served import (
    INFER,
    LIVE,
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
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from support.http2_served import Served

    Start = Callable[..., AbstractContextManager[Served]]


@pytest.fixture
def start(folder: Path, transport: str) -> Start:
    """Starts a server of its own settings."""

    def starting(**settings: Any) -> AbstractContextManager[Served]:
        return served(folder, transport, **settings).running()

    return starting


def goaway(code: int = Code.NO_ERROR, last: int = 0) -> bytes:
    return frame(Kind.GOAWAY, 0, 0, last.to_bytes(4, "big") + int(code).to_bytes(4, "big") + b"bye")


# The client's end


@pytest.mark.parametrize("code", [Code.NO_ERROR, Code.PROTOCOL_ERROR, 0x1234])
def test_calls_at_work_are_answered_after_the_clients_goaway(peer: Peer, code: int) -> None:
    """It says what the client takes of the server's streams, of which there are none."""
    stream = peer.start(head(INFER))
    peer.send(goaway(code))
    peer.send_data(stream, message(echo_request(b"a")), end=True)
    if code:
        # An error may end the connection at once.
        assert peer.fate(stream) in ("status 0", "closed", "goaway NO_ERROR")
    else:
        assert echoed(peer.answer(stream).messages()[0]) == b"a"


def test_a_client_that_closes_its_sending_side_is_let_go(running: Served) -> None:
    tasks = running.tasks()
    with Peer(running.address) as peer:
        peer.settled()
        peer.start(head(STREAM))
        peer.pinged()
        peer.socket.shutdown(socket.SHUT_WR)
        peer.end()
    running.calms_down(tasks)


@pytest.mark.parametrize("cut", [1, 8, 9, 10, 40])
def test_a_client_that_leaves_in_the_middle_of_a_frame_is_forgotten(running: Served, cut: int) -> None:
    tasks = running.tasks()
    with Peer(running.address) as peer:
        peer.settled()
        stream = peer.start(head(INFER))
        peer.pinged()
        peer.send(frame(Kind.DATA, 0, stream, message(echo_request(bytes(100))))[:cut])
    running.calms_down(tasks)


def test_connections_come_and_go(running: Served) -> None:
    tasks = running.tasks()
    for _ in range(100):
        with Peer(running.address) as peer:
            lives(peer)
    with_open = [Peer(running.address) for _ in range(50)]
    for each in with_open:
        lives(each)
    for each in with_open:
        each.socket.close()
    running.calms_down(tasks)


# The server's stop


def test_a_stop_answers_what_is_at_work_then_says_goodbye(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = RunGate(monkeypatch)
    with start() as running, Peer(running.address) as peer, Peer(running.address) as idle:
        idle.settled()
        gate.shut()
        stream = peer.request(INFER, echo_request(b"last"))
        running.until(lambda: running.busy("echo") == 1)
        running.begin_stop()
        grpc = running.server._grpc
        assert grpc is not None
        running.until(lambda: bool(grpc._calls.is_draining))
        refused = peer.call(INFER, echo_request(b"late"))
        assert refused.status == 14
        gate.open()
        assert echoed(peer.answer(stream).messages()[0]) == b"last"
        assert peer.end() == Code.NO_ERROR
        assert idle.end() == Code.NO_ERROR
        running.thread.join(20)
        assert running.server.drained
        assert not running.errors()


def test_a_stop_ends_streams_and_watches(start: Start) -> None:
    """An open stream gets what it has asked for, then its end; a watch is told that nothing serves any more."""
    with start() as running, Peer(running.address) as peer:
        stream = peer.start(head(STREAM))
        peer.send_data(stream, message(echo_request(b"a")))
        watch = peer.start(head(WATCH))
        peer.send_data(watch, message(b""), end=True)
        while not (peer._answer(stream).messages() and peer._answer(watch).messages()):
            assert peer.read() is not None
        running.begin_stop()
        peer.end()
        assert echoed_on_stream(peer.answers[stream].messages()[0]) == b"a"
        assert peer.answers[stream].over
        running.thread.join(20)
        assert running.server.drained


def test_nobody_can_connect_after_the_stop(start: Start) -> None:
    with start() as running, Peer(running.address) as peer:
        lives(peer)
    with pytest.raises(OSError, match="refused"), Peer(running.address):
        pass


def test_a_client_is_told_to_leave_when_the_drain_begins_and_not_when_it_ends(
    start: Start, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """So its next calls go elsewhere while this server still works on the last one."""
    own(transport, "says so when its calls have ended")
    gate = RunGate(monkeypatch)
    with start() as running, Peer(running.address) as peer:
        peer.settled()
        gate.shut()
        stream = peer.request(INFER, echo_request(b"last"))
        running.until(lambda: running.busy("echo") == 1)
        running.begin_stop()
        while len(peer.goaways) < 2:  # one that announces the end, one that says what is still answered
            assert peer.read() is not None
        assert peer.goaways[-1][:2] == (stream, Code.NO_ERROR)
        gate.open()
        assert echoed(peer.answer(stream).messages()[0]) == b"last"
        assert peer.end() == Code.NO_ERROR
        assert not running.errors()


# Ages


def test_an_idle_connection_is_ended_at_its_age(start: Start) -> None:
    with start(grpc_max_connection_age=150) as running, Peer(running.address) as peer:
        began = time.monotonic()
        lives(peer)
        assert peer.end() == Code.NO_ERROR
        assert 0.1 < time.monotonic() - began < 3
        assert not running.errors()


def test_calls_at_work_outlive_the_age_by_the_grace_and_no_more(start: Start) -> None:
    """One ends in the grace and is answered; one does not and is cut off."""
    with (
        start(grpc_max_connection_age=150, grpc_max_connection_age_grace=400) as running,
        Peer(running.address) as peer,
    ):
        quick, slow = peer.start(head(STREAM)), peer.start(head(STREAM))
        # First that the end comes; when that was read, which streams are still answered.
        while not (peer.goaways and peer.goaways[-1][0] < 2**31 - 1):
            assert peer.read() is not None
        assert peer.goaways[0] == (2**31 - 1, Code.NO_ERROR, peer.goaways[0][2])
        assert peer.goaways[-1][:2] == (slow, Code.NO_ERROR)
        late = peer.request(LIVE, b"")
        peer.send_data(quick, message(echo_request(b"a")), end=True)
        answer = peer.answer(quick)
        assert echoed_on_stream(answer.messages()[0]) == b"a"
        assert answer.status == 0
        began = time.monotonic()
        peer.end()
        assert time.monotonic() - began < 2.5
        assert peer._answer(late).reset in (None, Code.REFUSED_STREAM)
        assert not peer.answers[late].data
        found = peer._answer(slow)
        assert not found.over or found.status == 14 or found.reset is not None
        running.until(lambda: not running.calls())
        assert not running.errors()


def test_calls_that_were_under_way_when_the_age_was_told_are_answered(start: Start) -> None:
    """Between the server's GOAWAY and the client's reading it, calls are opened; none is lost without a word."""
    with start(grpc_max_connection_age=100) as running, Peer(running.address) as peer:
        answered = 0
        deadline = time.monotonic() + 2
        while not peer.closed and time.monotonic() < deadline:
            if peer.goaways and peer.goaways[-1][0] < peer.next_stream:
                break
            stream = peer.request(LIVE, b"")
            while not peer._answer(stream).over:
                if peer.read() is None:
                    break
            last = peer.goaways[-1][0] if peer.goaways else 2**31 - 1
            if stream <= last:
                assert peer.answers[stream].status == 0
                answered += 1
        assert answered
        assert peer.end() == Code.NO_ERROR


# Pings


def test_a_client_that_pings_too_often_is_told_to_calm_down(start: Start, transport: str) -> None:
    with start(grpc_http2_max_ping_strikes=2) as running, Peer(running.address) as peer:
        peer.settled()
        for _ in range(10):
            peer.send(ping())
        assert peer.end() == Code.ENHANCE_YOUR_CALM
        assert peer.goaways[-1][2] == b"too_many_pings"
        # Core answers all that came in one piece.
        assert len(peer.pongs) <= 3 or transport == "grpcio"


def test_pings_between_calls_are_no_strikes(start: Start) -> None:
    """Whoever gets data in between may ping again: as clients do that measure their bandwidth."""
    with start(grpc_http2_max_ping_strikes=2) as running, Peer(running.address) as peer:
        peer.settled()
        for _ in range(20):
            peer.send(ping())
            lives(peer)
        assert not peer.goaways


def test_pings_as_often_as_allowed_are_no_strikes(start: Start) -> None:
    with (
        start(grpc_http2_max_ping_strikes=1, grpc_http2_min_recv_ping_interval_without_data=1,
              grpc_keepalive_permit_without_calls=True) as running,
        Peer(running.address) as peer,
    ):  # fmt: skip
        stream = peer.start(head(WATCH))
        peer.send_data(stream, message(b""), end=True)
        for _ in range(6):
            time.sleep(0.003)
            peer.pinged()
        assert not peer.goaways


def test_a_quiet_client_is_pinged_and_stays_if_it_answers(start: Start) -> None:
    with (
        start(grpc_keepalive_time=100, grpc_keepalive_timeout=300, grpc_keepalive_permit_without_calls=True,
              grpc_http2_max_pings_without_data=0) as running,
        Peer(running.address) as peer,
    ):  # fmt: skip
        while peer.pings < 2:
            assert peer.read() is not None
        lives(peer)


def test_a_client_that_answers_no_ping_is_disconnected(start: Start, transport: str) -> None:
    own(transport, "waits a minute, whatever it is told")
    with (
        start(grpc_keepalive_time=100, grpc_keepalive_timeout=200, grpc_keepalive_permit_without_calls=True,
              grpc_http2_max_pings_without_data=0) as running,
        Peer(running.address) as peer,
    ):  # fmt: skip
        lives(peer)
        peer.auto = False
        stream = peer.start(head(STREAM))
        peer.end()
        assert peer.pings
        assert peer._answer(stream).status in (None, 14)
        running.until(lambda: not running.calls())
        assert not running.errors()


def test_a_quiet_client_without_calls_is_not_pinged_unless_asked_for(start: Start) -> None:
    with (
        start(grpc_keepalive_time=50, grpc_keepalive_timeout=50) as running,
        Peer(running.address, limit_s=0.4) as peer,
    ):
        peer.settled()
        with pytest.raises(TimeoutError):
            peer.until(Kind.PING, Kind.GOAWAY)
        lives(peer)


# Streams at once


def test_streams_beyond_the_servers_limit_are_refused_alone(start: Start) -> None:
    with start(grpc_max_concurrent_streams=4) as running, Peer(running.address) as peer:
        peer.settled()
        assert peer.settings[Setting.MAX_CONCURRENT_STREAMS] == 4
        streams = [peer.start(head(STREAM)) for _ in range(4)]
        peer.pinged()
        extra = [peer.start(head(STREAM)) for _ in range(3)]
        for stream in extra:
            assert peer.fate(stream) == "reset REFUSED_STREAM"
        for stream in streams:
            peer.send_data(stream, message(echo_request(b"a")), end=True)
            assert echoed_on_stream(peer.answer(stream).messages()[0]) == b"a"
        lives(peer)
        for _ in range(10):
            peer.send(frame(Kind.RST_STREAM, 0, peer.start(head(STREAM)), bytes(4)))
        running.until(lambda: not running.calls())
        lives(peer)


def test_as_many_streams_as_announced_may_be_open(peer: Peer) -> None:
    wanted = min(1_000, peer.settings.get(Setting.MAX_CONCURRENT_STREAMS, 1_000))
    streams = [peer.start(head(STREAM)) for _ in range(wanted)]
    peer.pinged()
    for stream in streams:
        peer.send(frame(Kind.DATA, END_STREAM, stream))
    assert {peer.answer(stream).status for stream in streams} == {0}


def test_unread_settings_of_the_client_hold_up_nothing(running: Served) -> None:
    """A client that never acknowledges the server's settings is served; the server waits for nothing."""
    with Peer(running.address, auto=False) as peer:
        for _ in range(5):
            lives(peer)


@pytest.fixture
def unix(folder: Path, transport: str, tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "naiad.sock")
    with served(folder, transport, grpc_address=f"unix:{path}").running():
        yield path


def test_a_unix_socket_speaks_the_same(unix: str) -> None:
    with Peer(unix) as peer:
        payload = bytes(500_000)
        assert echoed(peer.call(INFER, echo_request(payload)).messages()[0]) == payload
