"""Random frames and damaged traffic, seeds fixed: the server logs no error, answers others, and lets everything go."""

from __future__ import annotations

import contextlib
import random
import struct
import time
from typing import TYPE_CHECKING

import pytest
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
    reset,
    settings,
    window,
)
from support.http2_served import INFER, LIVE, STREAM, WATCH, echo_request, lives

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.http2_served import Served

PATHS = (LIVE, INFER, STREAM, WATCH, "/no.Such/Method")
FUZZ_S = 1.5
"""Seconds of a test; what is tried is the same each time, how far it gets is the machine's."""


def recorded(path: str = INFER) -> list[bytes]:
    """The frames of a good conversation."""
    encoder = Encoder()
    body = message(echo_request(b"recorded" * 4))
    frames = [PREFACE, settings({4: 70_000}), frame(Kind.SETTINGS, ACK), window(0, 100_000)]
    for stream in (1, 3, 5, 7):
        block = encoder.encode(head(path, ("x-n", str(stream))))
        frames += [
            frame(Kind.HEADERS, 0, stream, block[:7]),
            frame(Kind.CONTINUATION, END_HEADERS, stream, block[7:]),
            frame(Kind.DATA, 0, stream, body[:11]),
            window(stream, 77),
            frame(Kind.DATA, END_STREAM, stream, body[11:]),
        ]
    frames.insert(9, ping(b"recorded"))
    frames.append(reset(7))
    return frames


def damaged(rng: random.Random, frames: list[bytes]) -> bytes:
    """Good traffic with one to four things wrong."""
    frames = list(frames)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(1, len(frames))
        match rng.randrange(5):
            case 0:
                del frames[at]
            case 1:
                frames.insert(at, frames[rng.randrange(1, len(frames))])
            case 2:
                other = rng.randrange(1, len(frames))
                frames[at], frames[other] = frames[other], frames[at]
            case 3:
                frames.insert(at, any_frame(rng))
            case _:
                frames[at] = damaged_frame(rng, frames[at])
    return b"".join(frames)


def damaged_frame(rng: random.Random, sent: bytes) -> bytes:
    """A frame with one bit, its end, its kind, its flags or its stream wrong."""
    match rng.randrange(5):
        case 0:
            return flipped(rng, sent)
        case 1:
            return sent[: rng.randrange(len(sent) + 1)]
        case 2:
            return sent[:3] + bytes([rng.randrange(12)]) + sent[4:]
        case 3:
            return sent[:4] + bytes([rng.randrange(256)]) + sent[5:]
        case _:
            stream = rng.choice([0, 1, 2, 3, 5, 7, 9, 2**31 - 1, 2**31])
            return sent[:5] + struct.pack(">I", stream) + sent[9:]


def flipped(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    if changed:
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def any_frame(rng: random.Random) -> bytes:
    """A frame of which anything may be wrong, and most is nearly right."""
    stream = rng.choice([0, 0, 1, 1, 3, 3, 5, 7, 9, 11, rng.randrange(2**32)])
    kind = rng.choice([*Kind, *Kind, rng.randrange(256)])
    flags = rng.choice([0, END_STREAM, END_HEADERS, END_HEADERS | END_STREAM, rng.randrange(256)])
    match rng.randrange(6):
        case 0:
            payload = rng.randbytes(rng.choice([0, 1, 4, 5, 8, 9, 100, 2_000]))
        case 1:
            payload = literals(head(rng.choice(PATHS)))
        case 2:
            payload = message(echo_request(rng.randbytes(rng.randrange(60))), rng.choice([0, 0, 0, 1, 7]))
        case 3:
            payload = struct.pack(">I", rng.choice([0, 1, 100, 2**31 - 1, 2**32 - 1]))
        case 4:
            payload = struct.pack(
                ">HI", rng.randrange(9), rng.choice([0, 1, 16_384, 65_535, 2**31 - 1, 2**32 - 1])
            )
        case _:
            payload = literals(
                [
                    (
                        rng.choice(["x", "X", ":path", "te", "grpc-timeout", "x-bin"]),
                        rng.choice(["", "1", "1S"]),
                    )
                ]
            )
    length = rng.choice([None] * 20 + [0, len(payload) + 1, rng.randrange(2**24)])
    return frame(kind, flags, stream, payload, length=length)


def thrown(running: Served, data: bytes, rng: random.Random) -> None:
    """Send it on a connection of its own, read a little of what comes, and leave in one of the ways to leave."""
    with Peer(running.address, greet=False, limit_s=0.02) as peer:
        peer.send(data)
        if rng.random() < 0.5:
            with contextlib.suppress(TimeoutError, ConnectionError):
                # Not by the peer's own reading: it would hold answers to a broken client to the protocol.
                peer.socket.recv(65_536)


@pytest.mark.parametrize("seed", range(2))
def test_damaged_traffic(running: Served, seed: int) -> None:
    rng = random.Random(seed)
    traffic = [recorded(path) for path in PATHS]
    survives(running, rng, lambda: damaged(rng, rng.choice(traffic)))


def test_random_frames(running: Served) -> None:
    rng = random.Random(20)
    start = PREFACE + settings()
    survives(running, rng, lambda: start + b"".join(any_frame(rng) for _ in range(rng.randint(1, 30))))


def test_random_bytes(running: Served) -> None:
    rng = random.Random(30)
    survives(
        running,
        rng,
        lambda: rng.choice([b"", PREFACE, PREFACE + settings()]) + rng.randbytes(rng.randrange(300)),
    )


def survives(running: Served, rng: random.Random, make: Callable[[], bytes]) -> None:
    """Throw what is made at the server for a while; it stays whole."""
    tasks = running.tasks()
    until = time.monotonic() + FUZZ_S
    count = 0
    while time.monotonic() < until and count < 2_000:
        thrown(running, make(), rng)
        count += 1
        if count % 50 == 0:
            with Peer(running.address) as peer:
                lives(peer)
            assert not running.errors()
    assert count > 20
    running.calms_down(tasks)


class Client:
    """A client that only does what the protocol allows, at random: each of its calls must be answered as it should."""

    def __init__(self, peer: Peer, rng: random.Random) -> None:
        self.peer = peer
        self.rng = rng
        self.open: dict[int, tuple[str, bytes, bytes]] = {}
        self.expected: dict[int, tuple[str, bytes]] = {}

    def step(self) -> None:
        """One legal thing."""
        do = self.rng.choice(
            [self.start, self.feed, self.feed, self.feed, self.ping, self.set, self.leave, self.priority]
        )
        do()

    def start(self) -> None:
        path = self.rng.choice([LIVE, INFER, STREAM])
        data = self.rng.randbytes(self.rng.choice([1, 100, 20_000]))
        body = message(b"" if path == LIVE else echo_request(data))
        stream = self.peer.start(head(path, ("x-n", str(self.rng.randrange(5)))))
        self.open[stream] = (path, body, data)

    def feed(self) -> None:
        if not self.open:
            return
        stream = self.rng.choice(list(self.open))
        path, body, data = self.open[stream]
        size = self.rng.choice([0, 1, 5, 1_000, 16_384])
        part, rest = body[:size], body[size:]
        self.peer.send_data(stream, part, end=not rest)
        if rest:
            self.open[stream] = (path, rest, data)
        else:
            del self.open[stream]
            self.expected[stream] = (path, data)

    def ping(self) -> None:
        self.peer.send(ping(self.rng.randbytes(8)))

    def set(self) -> None:
        self.peer.set({4: self.rng.choice([65_535, 70_000, 100_000]), 0x99: self.rng.randrange(2**32)})

    def leave(self) -> None:
        if self.open and self.rng.random() < 0.3:
            stream = self.rng.choice(list(self.open))
            del self.open[stream]
            self.peer.send(reset(stream))

    def priority(self) -> None:
        self.peer.send(frame(Kind.PRIORITY, 0, self.rng.randrange(1, 99), struct.pack(">IB", 0, 9)))
        self.peer.send(frame(0x77, self.rng.randrange(256), self.rng.randrange(99), self.rng.randbytes(5)))

    def finish(self) -> None:
        """End what is open and look at every answer."""
        while self.open:
            self.feed()
        for stream, (path, data) in self.expected.items():
            answer = self.peer.answer(stream)
            assert answer.status == 0, (path, answer.text)
            [found] = answer.messages()
            assert path == LIVE or data in found


@pytest.mark.parametrize("seed", range(6))
def test_legal_clients_are_always_answered(running: Served, seed: int) -> None:
    rng = random.Random(1_000 + seed)
    with Peer(running.address) as peer:
        client = Client(peer, rng)
        peer.settled()
        for _ in range(250):
            client.step()
        client.finish()
        assert not peer.goaways
