"""A stream of HTTP/2: what goes wrong in it ends its call, and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from naiad.services.http2 import messages
from naiad.services.http2.faults import CallFault
from naiad.services.http2.messages import FIRST_BYTES, MessageReader
from naiad.services.http2.stream import Stream

if TYPE_CHECKING:
    import pytest


class _Streams:
    """Writes down which stream failed of what."""

    def __init__(self) -> None:
        self.failed: list[tuple[Stream, CallFault]] = []

    def fail(self, stream: Stream, fault: CallFault) -> None:
        self.failed.append((stream, fault))


def _no_memory(size: int) -> memoryview:
    raise CallFault(grpc.StatusCode.RESOURCE_EXHAUSTED, f"no memory for {size} bytes of a message")


def test_no_memory_for_the_rest_of_a_message_ends_the_call_and_not_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The room for what is still to come is asked for outside of any message's own path."""
    streams = _Streams()
    stream = Stream(streams, 1, window=2**22, send_window=0, reader=MessageReader(2**30))  # type: ignore[arg-type]
    stream.feed(memoryview(b"\0" + (2 * FIRST_BYTES).to_bytes(4, "big")))
    stream.filled(FIRST_BYTES)
    monkeypatch.setattr(messages, "_memory", _no_memory)
    assert stream.room() is None
    [(failed, fault)] = streams.failed
    assert failed is stream
    assert fault.message == f"no memory for {2 * FIRST_BYTES} bytes of a message"
