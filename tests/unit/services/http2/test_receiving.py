"""Bytes to frames: a turn of the event loop takes only so many, and none is lost between two turns."""

from __future__ import annotations

import random

import pytest
from support.http2_peer import PREFACE, Kind, frame, ping, settings

from naiad.services.http2 import receiving
from naiad.services.http2.receiving import FrameReader, ReceiveBuffer

MAX_FRAME = 2**20


class _Sink:
    """Writes down what it is told, and knows no stream."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, bytes]] = []

    def frame(self, kind: int, flags: int, stream_id: int, payload: memoryview) -> None:
        self.seen.append((kind, stream_id, bytes(payload)))

    def data_begins(self, stream_id: int, length: int, flags: int) -> None:
        self.seen.append((Kind.DATA, stream_id, bytes(length)))

    def data_ends(self, stream: object) -> None:
        raise AssertionError("no stream, no end of one")


class _Clock:
    """Goes on by so much whenever it is asked."""

    def __init__(self, step_s: float) -> None:
        self.now_s = 0.0
        self.step_s = step_s

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


def _received(reader: FrameReader, data: bytes) -> None:
    room = reader.room()
    room[: len(data)] = data
    reader.received(len(data))


def test_a_turn_ends_in_time_and_the_next_goes_on() -> None:
    """Each look at the clock takes longer than a turn may: one frame is taken, the others wait."""
    sink = _Sink()
    reader = FrameReader(sink, ReceiveBuffer(), MAX_FRAME, _Clock(2 * receiving.TURN_S))
    _received(reader, PREFACE + settings() + ping(b"1" * 8) + ping(b"2" * 8))
    assert [kind for kind, _, _ in sink.seen] == [Kind.SETTINGS]
    assert reader.is_behind
    reader.go_on()
    assert sink.seen[1:] == [(Kind.PING, 0, b"1" * 8)]
    assert reader.is_behind
    reader.go_on()
    assert sink.seen[2:] == [(Kind.PING, 0, b"2" * 8)]
    assert not reader.is_behind


def test_a_quick_turn_takes_all() -> None:
    sink = _Sink()
    reader = FrameReader(sink, ReceiveBuffer(), MAX_FRAME, _Clock(0.0))
    _received(reader, PREFACE + settings() + ping() * 1_000)
    assert len(sink.seen) == 1_001
    assert not reader.is_behind


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("step_s", [0.0, receiving.TURN_S / 3, 2 * receiving.TURN_S])
def test_whatever_turns_and_reads_cut_apart_comes_whole_and_in_order(seed: int, step_s: float) -> None:
    """The buffer is shared, so that another connection's bytes stand in it between two turns."""
    chance = random.Random(seed)
    sent = [
        (
            chance.choice([Kind.PING, Kind.DATA, Kind.WINDOW_UPDATE]),
            number,
            bytes(chance.choice([0, 8, 5_000])),
        )
        for number in range(1, 100)
    ]
    data = PREFACE + b"".join(frame(kind, 0, number, payload) for kind, number, payload in sent)
    sink, buffer = _Sink(), ReceiveBuffer()
    reader = FrameReader(sink, buffer, MAX_FRAME, _Clock(step_s))
    while data or reader.is_behind:
        if reader.is_behind:
            reader.go_on()
        else:
            count = min(chance.choice([1, 20, 30_000]), len(reader.room()), len(data))
            _received(reader, data[:count])
            data = data[count:]
        buffer.memory[:] = b"\xff" * len(buffer.memory)
    assert sink.seen == sent
