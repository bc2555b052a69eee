"""Windows, both ways: large messages, windows of nothing, clients that do not read, fairness, memory."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.http2_peer import (
    END_STREAM,
    FIRST_WINDOW,
    MAX_WINDOW,
    Code,
    Kind,
    Peer,
    Setting,
    frame,
    head,
    message,
    settings,
    window,
)
from support.http2_served import (
    INFER,
    LIVE,
    STREAM,
    WATCH,
    echo_request,
    echoed,
    ends,
    lives,
    own,
)
from tritonclient.grpc import service_pb2 as pb

if TYPE_CHECKING:
    from support.http2_served import Served

LARGE = bytes(range(256)) * 4_096 * 5  # 5 MiB
MIB = 2**20
INITIAL = Setting.INITIAL_WINDOW_SIZE


def resident() -> int:
    """Bytes of this process's memory, server and client."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def echo_of(peer: Peer, stream: int) -> bytes:
    [answer] = peer.answer(stream).messages()
    return echoed(answer)


def use_up(peer: Peer) -> None:
    """Read until the connection's window is used to the last byte."""
    while peer.receive_window:
        assert peer.read() is not None


# Large messages


def test_messages_much_larger_than_all_windows_go_both_ways(peer: Peer) -> None:
    """Sent and read with the windows that the protocol begins with; each byte waits for its room."""
    assert echo_of(peer, peer.request(INFER, echo_request(LARGE))) == LARGE


def test_the_connections_window_is_given_back_as_it_is_used(peer: Peer) -> None:
    """More goes over one connection than its window held at first, in messages of which none needs much."""
    total = peer.send_window * 5 // 4
    sent = message(
        pb.ModelInferRequest(model_name="missing", raw_input_contents=[bytes(MIB)]).SerializeToString()
    )
    for _ in range(total // len(sent) + 1):
        stream = peer.start(head(INFER))
        peer.send_data(stream, sent, end=True)
        assert peer.answer(stream).status == 5


def test_large_messages_of_several_streams_share_the_connection(peer: Peer) -> None:
    payloads = [bytes([n]) * MIB for n in range(1, 5)]
    streams = [peer.start(head(INFER)) for _ in payloads]
    rest = {stream: message(echo_request(sent)) for stream, sent in zip(streams, payloads, strict=True)}
    while rest:
        for stream, sent in list(rest.items()):
            peer.send_data(stream, sent[:10_000], end=len(sent) <= 10_000)
            rest[stream] = sent[10_000:]
            if not rest[stream]:
                del rest[stream]
    assert [echo_of(peer, stream) for stream in streams] == payloads


def test_a_client_with_large_windows_gets_large_answers_at_once(running: Served) -> None:
    """No WINDOW_UPDATE of ours is needed."""
    with Peer(running.address, {INITIAL: MAX_WINDOW}, grants=False) as peer:
        peer.grant(0, MAX_WINDOW - FIRST_WINDOW)
        peer.settled()
        assert echo_of(peer, peer.request(INFER, echo_request(LARGE))) == LARGE


@pytest.mark.parametrize("size", [16_384, 16_385, 100_000, 2**24 - 1])
def test_frames_are_no_larger_than_the_client_takes(running: Served, size: int) -> None:
    """The peer asserts it of each frame."""
    with Peer(running.address, {Setting.MAX_FRAME_SIZE: size, INITIAL: MAX_WINDOW}) as peer:
        peer.settled()
        assert echo_of(peer, peer.request(INFER, echo_request(LARGE[:MIB]))) == LARGE[:MIB]


# Small windows


def test_an_answer_waits_for_a_window_of_nothing_and_its_status_behind_it(running: Served) -> None:
    """The head may come; of the message no byte, and the status only after the whole message."""
    with Peer(running.address, {INITIAL: 0}, grants=False) as peer:
        peer.settled()
        stream = peer.request(INFER, echo_request(b"abc"))
        running.until(lambda: not running.busy("echo"))
        peer.pinged()
        assert not peer._answer(stream).data
        assert not peer.answers[stream].ended
        peer.grant(stream, 3)
        while len(peer.answers[stream].data) < 3:
            assert peer.read() is not None
        peer.pinged()
        assert len(peer.answers[stream].data) == 3
        peer.grant(stream, 1_000)
        assert echo_of(peer, stream) == b"abc"


def test_an_answer_may_be_drawn_byte_by_byte(running: Served) -> None:
    with Peer(running.address, {INITIAL: 0}, grants=False) as peer:
        peer.settled()
        stream = peer.request(LIVE, b"")
        answer = peer._answer(stream)
        for count in range(1, 8):
            peer.grant(stream, 1)
            while len(answer.data) < count:
                assert peer.read() is not None
            assert len(answer.data) == count
        assert peer.answer(stream).status == 0


def test_the_connections_window_holds_answers_back_too(running: Served) -> None:
    with Peer(running.address, {INITIAL: MAX_WINDOW}, grants=False) as peer:
        peer.settled()
        stream = peer.request(INFER, echo_request(bytes(100_000)))
        use_up(peer)
        peer.pinged()
        assert len(peer.answers[stream].data) == FIRST_WINDOW
        # A status without a message needs no window.
        assert peer.call("/no.Such/Method", b"").status == 12
        peer.grant(0, 50_000)
        assert echo_of(peer, stream) == bytes(100_000)


def test_settings_raise_windows_of_open_streams(running: Served) -> None:
    with Peer(running.address, {INITIAL: 0}, grants=False) as peer:
        peer.settled()
        streams = [peer.request(INFER, echo_request(bytes([n]) * 500)) for n in range(5)]
        running.until(lambda: not running.busy("echo"))
        peer.pinged()
        assert not any(peer._answer(stream).data for stream in streams)
        peer.set({INITIAL: 2_000})
        for n, stream in enumerate(streams):
            assert echo_of(peer, stream) == bytes([n]) * 500


def test_settings_lower_windows_below_nothing(running: Served) -> None:
    """1,000 bytes have come; with an initial window of 0 the stream owes 1,000 before it may go on."""
    with Peer(running.address, {INITIAL: 1_000}, grants=False) as peer:
        peer.settled()
        stream = peer.request(INFER, echo_request(bytes(5_000)))
        answer = peer._answer(stream)
        while len(answer.data) < 1_000:
            assert peer.read() is not None
        peer.set({INITIAL: 0})
        peer.acknowledged(2)
        assert peer.receive_windows[stream] == -1_000
        peer.grant(stream, 1_000)
        peer.pinged()
        assert len(answer.data) == 1_000
        peer.grant(stream, 1)
        while len(answer.data) < 1_001:
            assert peer.read() is not None
        peer.set({INITIAL: 10_000})
        assert echo_of(peer, stream) == bytes(5_000)


@pytest.mark.parametrize("times", [1, 3])
def test_a_window_may_grow_to_its_limit_and_no_further(peer: Peer, transport: str, times: int) -> None:
    peer.send(window(0, MAX_WINDOW - FIRST_WINDOW))
    lives(peer)
    for _ in range(times):
        peer.send(window(0, MAX_WINDOW))
    if transport == "grpcio":
        lives(peer)  # it counts in 64 bits
    else:
        ends(peer, transport, Code.FLOW_CONTROL_ERROR)


def test_a_streams_window_beyond_the_limit_resets_the_stream_alone(peer: Peer, transport: str) -> None:
    own(transport, "counts in 64 bits")
    stream = peer.start(head(STREAM))
    peer.send(window(stream, MAX_WINDOW))
    assert peer.fate(stream) in ("reset FLOW_CONTROL_ERROR", "goaway FLOW_CONTROL_ERROR")


def test_a_streams_window_beyond_the_limit_by_settings_ends_the_connection(
    peer: Peer, transport: str
) -> None:
    own(transport, "counts in 64 bits")
    stream = peer.start(head(STREAM))
    peer.send(window(stream, MAX_WINDOW - FIRST_WINDOW) + settings({INITIAL: FIRST_WINDOW + 1}))
    assert peer.end() == Code.FLOW_CONTROL_ERROR


def test_data_beyond_the_streams_window_is_refused(running: Served, transport: str) -> None:
    """The server's own windows are as wide as it says: nothing is taken on credit."""
    with Peer(running.address) as peer:
        peer.settled()
        stream = peer.start(head(STREAM))
        part, sent = bytes(16_384), 0
        # A message that is larger than the limit of messages would be refused for that; this one is not.
        peer.send(frame(Kind.DATA, 0, stream, b"\0" + (16 * MIB).to_bytes(4, "big")))
        own(transport, "gives out more as it reads, whatever was sent")
        room = max(peer.send_window, peer.settings.get(INITIAL, FIRST_WINDOW))
        while sent < room + 16 * MIB:
            peer.send(frame(Kind.DATA, 0, stream, part))
            sent += len(part)
        assert peer.fate(stream) in (
            "reset FLOW_CONTROL_ERROR",
            "goaway FLOW_CONTROL_ERROR",
            "status 13",
            "status 8",
        )


# Clients that do not read


def test_a_stream_that_is_not_read_holds_up_no_other(running: Served) -> None:
    """One answer of 5 MiB stands before a window of nothing; calls beside it on the same connection go on."""
    with Peer(running.address, {INITIAL: 0}, grants=False) as peer:
        peer.settled()
        stuck = peer.request(INFER, echo_request(LARGE))
        peer.set({INITIAL: FIRST_WINDOW})
        while len(peer._answer(stuck).data) < FIRST_WINDOW:
            assert peer.read() is not None
        peer.grant(0, FIRST_WINDOW)
        for _ in range(20):
            stream = peer.request(LIVE, b"")
            assert peer.answer(stream).status == 0
        assert not peer.answers[stuck].over


def test_streams_share_a_small_window_fairly(running: Served, transport: str) -> None:
    """Ten answers of 100,000 bytes through a connection's window of 50,000 at a time: none waits for the others' end."""
    runs = running.runs("echo")
    with Peer(running.address, {INITIAL: MAX_WINDOW}, grants=False) as peer:
        peer.settled()
        streams = [peer.request(INFER, echo_request(bytes(100_000))) for _ in range(10)]
        use_up(peer)
        running.until(lambda: running.runs("echo") == runs + 10)
        peer.pinged()
        # Core gives all of the room to one stream, then to the next; ours a frame each.
        for _ in range(8 if transport == "naiad" else 12):
            peer.grant(0, 50_000)
            use_up(peer)
        # Not all has come; every stream has had some of it.
        given = [len(peer._answer(stream).data) for stream in streams]
        assert min(given) > 10_000, given
        peer.grant(0, MAX_WINDOW - 100_000)
        for stream in streams:
            assert echo_of(peer, stream) == bytes(100_000)


def test_memory_is_bounded_when_a_client_reads_no_answer(running: Served) -> None:
    """200 MB of answers are asked for on one stream of which not a byte is read: the server stops reading requests."""
    with Peer(running.address, {INITIAL: 0}, grants=False, limit_s=1) as peer:
        peer.settled()
        before = resident()
        sent = message(echo_request(bytes(100_000)))
        stream = peer.start(head(STREAM))
        for _ in range(2_000):
            while peer._room(stream) < len(sent):
                try:
                    assert peer.read() is not None
                except TimeoutError:
                    break
            if peer._room(stream) < len(sent):
                break
            peer.send_data(stream, sent)
        else:
            pytest.fail("the server took 200 MB of requests whose answers nobody reads")
        assert resident() - before < 64 * MIB
        with Peer(running.address) as other:
            lives(other.settled())


def test_memory_is_bounded_when_a_client_does_not_even_read_its_socket(running: Served) -> None:
    """Windows are open and the kernel's buffers full: what is not written yet is bounded."""
    tasks = running.tasks()
    with Peer(running.address, {INITIAL: MAX_WINDOW}, grants=False, limit_s=1, receive_buffer=4_096) as peer:
        peer.grant(0, MAX_WINDOW - FIRST_WINDOW)
        peer.settled()
        before = resident()
        sent = message(echo_request(bytes(100_000)))
        stream = peer.start(head(STREAM))
        try:
            for _ in range(1_000):
                # As if the server gave back each byte at once: what it does not give back it need not take.
                peer.socket.sendall(b"".join(
                    frame(Kind.DATA, 0, stream, sent[at : at + 16_384]) for at in range(0, len(sent), 16_384)
                ))  # fmt: skip
        except (TimeoutError, ConnectionError):
            pass
        assert resident() - before < 64 * MIB
    running.calms_down(tasks)


def test_a_client_that_leaves_while_answers_wait_leaves_nothing_behind(running: Served) -> None:
    tasks = running.tasks()
    with Peer(running.address, {INITIAL: 0}, grants=False) as peer:
        peer.settled()
        for _ in range(10):
            peer.request(INFER, echo_request(bytes(10_000)))
        peer.start(head(WATCH))
        peer.pinged()
    running.calms_down(tasks)


def test_a_reset_of_a_large_answer_gives_the_window_to_others(running: Served) -> None:
    with Peer(running.address, {INITIAL: MAX_WINDOW}, grants=False) as peer:
        peer.settled()
        first = peer.request(INFER, echo_request(LARGE))
        use_up(peer)
        peer.send(frame(Kind.RST_STREAM, 0, first, bytes([0, 0, 0, 8])))
        peer.grant(0, FIRST_WINDOW)
        second = peer.request(INFER, echo_request(b"next"))
        assert echo_of(peer, second) == b"next"


def test_a_request_cut_off_by_a_reset_returns_its_window(peer: Peer) -> None:
    """More than any window goes into messages that are never whole."""
    for _ in range(30):
        stream = peer.start(head(INFER))
        peer.send_data(stream, message(bytes(300_000))[:250_000])
        peer.send(frame(Kind.RST_STREAM, 0, stream, bytes([0, 0, 0, 8])))
    assert echo_of(peer, peer.request(INFER, echo_request(LARGE[:MIB]))) == LARGE[:MIB]


def test_end_of_stream_needs_no_window(running: Served) -> None:
    """The client's windows are used up to the last byte; its empty frame that ends the stream may go still."""
    with Peer(running.address, {INITIAL: 7}, grants=False) as peer:
        peer.settled()
        stream = peer.start(head(LIVE))
        peer.send(frame(Kind.DATA, 0, stream, message(b"")) + frame(Kind.DATA, END_STREAM, stream))
        assert peer.answer(stream).status == 0
