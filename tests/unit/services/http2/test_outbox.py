"""What a connection sends: what piles up for a client that does not read, and what a small window costs."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import pytest

from naiad.services.http2 import frames
from naiad.services.http2.faults import ConnectionFault
from naiad.services.http2.outbox import WRITE_BYTES, Outbox
from naiad.services.http2.patience import MAX_UNREAD_BYTES, Patience

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Transport(asyncio.WriteTransport):
    """Keeps what is written; asks for a pause when told to, as asyncio's do within a write."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.outbox: Outbox | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data
        if self.outbox is not None:
            self.outbox.pause()

    def is_closing(self) -> bool:
        return False


class _Stream:
    """What an outbox asks of a stream."""

    def __init__(self, message: bytes) -> None:
        self.id = 1
        self.backlog: deque[bytes | memoryview] = deque([message])
        self.send_window = 0
        self.is_drained = False

    def drained(self) -> None:
        self.is_drained = True


@pytest.fixture
def transport() -> _Transport:
    return _Transport()


@pytest.fixture
def outbox(transport: _Transport) -> Iterator[Outbox]:
    loop = asyncio.new_event_loop()
    yield Outbox(transport, loop)
    loop.close()


def test_what_is_added_while_the_client_does_not_read_is_counted_until_it_does(outbox: Outbox) -> None:
    outbox.write(bytes(100))
    assert outbox.unread_bytes == 0
    outbox.pause()
    outbox.write(bytes(100))
    outbox.write(bytes(20))
    assert outbox.unread_bytes == 120
    outbox.resume()
    assert outbox.unread_bytes == 0


def test_patience_ends_with_a_client_that_reads_no_refusals_and_not_with_a_message_on_its_way(
    outbox: Outbox,
) -> None:
    patience = Patience(outbox)
    outbox.write(bytes(2 * MAX_UNREAD_BYTES))  # a message, after which the client's buffers are full
    outbox.pause()
    patience.tried()
    patience.restored()
    outbox.write(bytes(MAX_UNREAD_BYTES + 1))
    with pytest.raises(ConnectionFault) as fault:
        patience.restored()  # calls that come are refused, and nobody reads it
    assert fault.value.code == frames.ENHANCE_YOUR_CALM
    with pytest.raises(ConnectionFault):
        patience.tried()


def test_a_window_that_grows_by_bytes_copies_nothing(transport: _Transport, outbox: Outbox) -> None:
    """What is left of a message is a view of it, however often a part is cut off."""
    message = bytes(range(256)) * 100
    stream = _Stream(message)
    for _ in range(3):
        outbox.stream_window(stream, 1)  # type: ignore[arg-type]  # the part of a stream that is asked for
        rest = stream.backlog[0]
        assert isinstance(rest, memoryview)
        assert rest.obj is message
    outbox.stream_window(stream, 60_000)  # type: ignore[arg-type]
    assert stream.is_drained
    outbox.flush()
    expected = b"".join(
        frames.frame(frames.DATA, 0, 1, part)
        for part in (message[:1], message[1:2], message[2:3], message[3:16_387], message[16_387:])
    )
    assert bytes(transport.written) == expected


def test_answers_that_come_together_heed_the_pause_that_the_first_of_them_bring(
    transport: _Transport, outbox: Outbox
) -> None:
    """Else a batch of large answers would be written at once, whatever the client takes."""
    outbox.window = frames.MAX_WINDOW
    outbox.max_frame_bytes = 2**20
    stream = _Stream(b"")
    stream.send_window = frames.MAX_WINDOW
    outbox.hold()
    transport.outbox = outbox
    message = bytes(WRITE_BYTES)
    assert outbox.answer(stream, b"head", message, b"end")  # type: ignore[arg-type]
    assert not transport.written
    assert not outbox.answer(stream, b"head", message, b"end")  # type: ignore[arg-type]
    assert WRITE_BYTES < len(transport.written) < WRITE_BYTES + 100
