"""Messages out of any cut of the stream; what is refused, when, and with how little memory; compression."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib
from itertools import pairwise
from typing import TYPE_CHECKING

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from naiad.services.grpc_settings import CompressionLevel
from naiad.services.http2.faults import CallFault
from naiad.services.http2.messages import (
    ACCEPT_ENCODING,
    FIRST_BYTES,
    LARGE_BYTES,
    SUPPORTED,
    MessageBudget,
    MessageReader,
    Packed,
    answer_encoding,
    check_sent,
    compress,
    decompress,
    prefix,
    prefixed,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.services.http2.messages import Received

LIMIT = 2**31 - 1
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
INTERNAL = grpc.StatusCode.INTERNAL


def framed(message: bytes, flag: int = 0) -> bytes:
    return struct.pack(">BI", flag, len(message)) + message


def noise(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


def whole(received: Received) -> bytes:
    return received.unpacked() if isinstance(received, Packed) else bytes(received)


def read(reader: MessageReader, data: bytes) -> list[bytes]:
    return [whole(received) for received in reader.feed(memoryview(data))]


def direct(reader: MessageReader, data: bytes, step: int) -> Received | None:
    """Write into the reader's own memory, as the kernel would, at most `step` bytes at a time."""
    message = None
    while data:
        assert message is None
        room = reader.room()
        assert room is not None
        count = min(step, len(room), len(data))
        room[:count] = data[:count]
        message = reader.filled(count)
        data = data[count:]
    return message


def refused(
    data: bytes, *, max_bytes: int = LIMIT, encoding: str = "identity"
) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(CallFault) as raised:
        read(MessageReader(max_bytes, encoding), data)
    return raised.value.code, raised.value.message


# Cutting


@pytest.mark.parametrize("size", [0, 1, LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1])
def test_one_whole_message_comes_as_it_was_sent(size: int) -> None:
    reader = MessageReader(LIMIT)
    assert read(reader, framed(noise(size))) == [noise(size)]
    assert reader.is_between_messages
    assert reader.partial_bytes == 0


@given(
    messages=st.lists(
        st.one_of(st.binary(max_size=40), st.sampled_from([noise(LARGE_BYTES - 1), noise(LARGE_BYTES + 7)])),
        max_size=6,
    ),
    cuts=st.lists(st.floats(0, 1), max_size=12),
    encoding=st.sampled_from(SUPPORTED),
)
def test_any_cut_of_the_stream_gives_the_same_messages(
    messages: list[bytes], cuts: list[float], encoding: str
) -> None:
    """In prefixes too, over several messages at once, compressed ones mixed with those that got no smaller."""
    stream = b"".join(prefixed(message, encoding) for message in messages)
    places = sorted({0, len(stream), *(round(cut * len(stream)) for cut in cuts)})
    reader = MessageReader(LIMIT, encoding)
    found = [message for start, stop in pairwise(places) for message in read(reader, stream[start:stop])]
    assert found == messages
    assert reader.is_between_messages


def test_byte_by_byte_a_message_is_partial_until_its_last() -> None:
    """END_STREAM inside of one is told by that."""
    reader = MessageReader(LIMIT)
    stream = framed(b"abc")
    for count, byte in enumerate(stream[:-1], 1):
        assert read(reader, bytes([byte])) == []
        assert not reader.is_between_messages
        assert reader.partial_bytes == count
    assert read(reader, stream[-1:]) == [b"abc"]
    assert reader.is_between_messages


def test_the_rest_of_a_prefix_is_not_taken_for_a_message_of_its_own() -> None:
    """Together with what follows it, it could be read as one."""
    reader = MessageReader(LIMIT, "gzip")
    assert read(reader, b"\0") == []
    assert read(reader, b"\0\0\0\0" + b"\1\0") == [b""]
    assert reader.partial_bytes == 2


def test_a_message_is_no_view_of_the_receive_buffer() -> None:
    """Which is overwritten by what comes next."""
    for size in (10, LARGE_BYTES):
        buffer = bytearray(framed(noise(size)))
        [message] = MessageReader(LIMIT).feed(memoryview(buffer))
        buffer[:] = bytes(len(buffer))
        assert message == noise(size)


# Large messages


@pytest.mark.parametrize("size", [LARGE_BYTES, FIRST_BYTES, FIRST_BYTES + 1, 3 * FIRST_BYTES])
def test_a_large_message_is_received_straight_into_its_memory(size: int) -> None:
    """Read-only afterwards, as bytes are, and aligned as numpy's own arrays."""
    sent = noise(size)
    reader = MessageReader(LIMIT)
    assert reader.feed(memoryview(framed(sent)[:1_000])) == []
    message = direct(reader, framed(sent)[1_000:], step=300_000)
    assert isinstance(message, memoryview)
    assert message.readonly
    assert message == sent
    assert np.frombuffer(message, np.uint8).ctypes.data % 16 == 0
    assert reader.room() is None
    assert reader.is_between_messages


def test_what_is_left_of_a_large_message_may_come_either_way() -> None:
    sent = noise(FIRST_BYTES + 100_000)
    stream = framed(sent)
    reader = MessageReader(LIMIT)
    assert read(reader, stream[:70_000]) == []
    assert direct(reader, stream[70_000:2_000_000], step=50_000) is None
    assert read(reader, stream[2_000_000:] + framed(b"next")) == [sent, b"next"]


def test_there_is_no_room_but_for_a_large_message() -> None:
    """A small one ends sooner than another system call begins."""
    reader = MessageReader(LIMIT)
    assert reader.room() is None
    reader.feed(memoryview(framed(bytes(LARGE_BYTES - 1))[:-1]))
    assert reader.room() is None
    assert not reader.is_between_messages


def test_a_large_compressed_message_is_received_directly_too() -> None:
    sent = noise(2 * LARGE_BYTES) + bytes(1_000)
    reader = MessageReader(LIMIT, "gzip")
    stream = prefixed(sent, "gzip")
    assert reader.feed(memoryview(stream[:5])) == []
    received = direct(reader, stream[5:], step=10**6)
    assert received is not None
    assert whole(received) == sent


def test_memory_follows_what_came_and_not_what_was_claimed() -> None:
    """A prefix that says 2 GiB gets 4 MiB; twice what it holds once that is full."""
    tracemalloc.start()
    try:
        reader = MessageReader(LIMIT)
        reader.feed(memoryview(prefix(LIMIT) + b"x"))
        assert tracemalloc.get_traced_memory()[0] < FIRST_BYTES + 2**16
        assert direct(reader, bytes(FIRST_BYTES), step=2**20) is None
        assert tracemalloc.get_traced_memory()[0] < 2 * FIRST_BYTES + 2**16
        del reader
        assert tracemalloc.get_traced_memory()[0] < 2**16
    finally:
        tracemalloc.stop()


# What is refused


@pytest.mark.parametrize("claimed", [11, 2**32 - 1])
def test_too_long_a_message_is_refused_at_its_prefix(claimed: int) -> None:
    told = (EXHAUSTED, f"SERVER: Received message larger than max ({claimed} vs. 10)")
    assert refused(prefix(claimed), max_bytes=10) == told
    assert refused(framed(b"fits") + prefix(claimed), max_bytes=10) == told
    assert refused(framed(noise(LARGE_BYTES)), max_bytes=LARGE_BYTES - 1)[0] is EXHAUSTED


def test_large_messages_count_in_the_budget_until_they_are_given_back() -> None:
    """What a message has outgrown is given back at once, what it takes when its call is over."""
    budget = MessageBudget(8 * 2**20)
    reader = MessageReader(16 * 2**20, "identity", budget)
    sent = noise(3 * 2**20)
    read(reader, framed(sent)[: 2**20])
    assert budget.held == FIRST_BYTES
    [message] = read(reader, framed(sent)[2**20 :])
    assert (message, budget.held) == (sent, len(sent))
    reader.give_back(2**20)
    assert budget.held == 2**21
    reader.give_back()
    reader.give_back()
    assert budget.held == 0


def test_a_message_over_the_budget_is_refused_with_figures_and_flag() -> None:
    budget = MessageBudget(100_000)
    budget.take(50_000)
    with pytest.raises(CallFault, match=r"50000 bytes .* 70000 more .* 100000 .*--grpc-max-pending-bytes"):
        read(MessageReader(16 * 2**20, "identity", budget), framed(noise(70_000)))
    assert budget.held == 50_000


def test_the_longest_message_allowed_is_taken() -> None:
    assert read(MessageReader(10), framed(bytes(10))) == [bytes(10)]
    with pytest.raises(CallFault, match="11 vs. 10"):
        MessageReader(10).feed(memoryview(framed(bytes(11))))


def test_a_length_that_comes_in_pieces_is_refused_with_its_last_byte() -> None:
    reader = MessageReader(10)
    assert read(reader, prefix(11)[:4]) == []
    with pytest.raises(CallFault, match="11 vs. 10"):
        reader.feed(memoryview(prefix(11)[4:]))


@pytest.mark.parametrize("flag", [2, 3, 255])
def test_a_flag_that_is_not_known_is_refused(flag: int) -> None:
    assert refused(framed(b"abc", flag), encoding="gzip") == (INTERNAL, f"Bad GRPC frame type 0x{flag:02x}")


def test_a_compressed_message_without_an_encoding_is_refused() -> None:
    told = (INTERNAL, "Compression bit set but no encoding configured")
    assert refused(framed(gzip.compress(b"abc", mtime=0), 1)) == told


# Compressed messages

COMPRESSED: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_a_call_with_an_encoding_may_send_messages_with_and_without_it(encoding: str) -> None:
    reader = MessageReader(LIMIT, encoding)
    assert read(reader, framed(COMPRESSED[encoding](b"abc"), 1) + framed(b"def")) == [b"abc", b"def"]


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_an_empty_compressed_message_is_empty(encoding: str) -> None:
    assert read(MessageReader(LIMIT, encoding), prefix(0, compressed=True)) == [b""]


@pytest.mark.parametrize(
    ("data", "encoding", "said"),
    [
        (b"xxxx", "gzip", "zlib error"),
        (b"xxxx", "deflate", "zlib error"),
        (zlib.compress(b"abc"), "gzip", "zlib error"),
        (gzip.compress(b"abc", mtime=0), "deflate", "zlib error"),
        (zlib.compress(b"abc", wbits=-15), "deflate", "zlib error"),
        (gzip.compress(b"abc", mtime=0)[:-8] + bytes(8), "gzip", "zlib error"),
        (gzip.compress(b"abc", mtime=0)[:-9], "gzip", "data error"),
        (gzip.compress(b"abc", mtime=0)[:-8], "gzip", "data error"),
        (zlib.compress(b"abc")[:-4], "deflate", "data error"),
        (gzip.compress(b"abc", mtime=0) + b"more", "gzip", "not all input consumed"),
        (gzip.compress(b"abc", mtime=0) + gzip.compress(b"", mtime=0), "gzip", "not all input consumed"),
    ],
)
def test_damaged_compressed_data_is_refused_in_cores_words(data: bytes, encoding: str, said: str) -> None:
    assert refused(framed(data, 1), encoding=encoding) == (INTERNAL, f"Decompression failed due to {said}")


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_a_bomb_is_refused_at_the_limit(encoding: str) -> None:
    """64 MiB of zeros in 64 KiB: it takes little more memory than may be received."""
    packed = COMPRESSED[encoding](bytes(2**26))
    tracemalloc.start()
    try:
        told = refused(framed(packed, 1), max_bytes=2**20, encoding=encoding)
        assert tracemalloc.get_traced_memory()[1] < 3 * 2**20
    finally:
        tracemalloc.stop()
    assert told == (EXHAUSTED, "Decompressed message larger than max")


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_a_compressed_message_may_hold_exactly_the_limit(encoding: str) -> None:
    assert decompress(COMPRESSED[encoding](bytes(1_000)), encoding, 1_000) == bytes(1_000)
    with pytest.raises(CallFault, match="^Decompressed message larger than max$"):
        decompress(COMPRESSED[encoding](bytes(1_001)), encoding, 1_000)


# Outgoing


@given(message=st.binary(max_size=2_000), encoding=st.sampled_from(SUPPORTED))
def test_what_is_prefixed_reads_back(message: bytes, encoding: str) -> None:
    sent = prefixed(message, encoding)
    assert len(sent) <= 5 + len(message)
    assert read(MessageReader(LIMIT, encoding), sent) == [message]


def test_a_view_is_prefixed_as_bytes_are() -> None:
    assert prefixed(memoryview(b"abc")) == prefixed(b"abc") == prefix(3) + b"abc" == b"\0\0\0\0\3abc"


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_a_message_that_gets_no_smaller_is_sent_as_it_is(encoding: str) -> None:
    assert compress(noise(1_000), encoding) is None
    assert compress(b"", encoding) is None
    assert prefixed(noise(1_000), encoding) == framed(noise(1_000))
    assert prefixed(bytes(1_000), encoding)[0] == 1
    assert len(prefixed(bytes(1_000), encoding)) < 100


@pytest.mark.parametrize(
    ("level", "accepted", "picked"),
    [
        (CompressionLevel.NONE, SUPPORTED, "identity"),
        (CompressionLevel.LOW, SUPPORTED, "gzip"),
        (CompressionLevel.LOW, ("identity", "deflate"), "deflate"),
        (CompressionLevel.MEDIUM, SUPPORTED, "deflate"),
        (CompressionLevel.HIGH, SUPPORTED, "deflate"),
        (CompressionLevel.HIGH, ("gzip", "br"), "gzip"),
        (CompressionLevel.HIGH, ("identity",), "identity"),
        (CompressionLevel.HIGH, (), "identity"),
        (CompressionLevel.HIGH, ("GZIP", "gzip;q=1"), "identity"),
    ],
)
def test_the_encoding_is_picked_as_grpcs_core_picks_it(
    level: CompressionLevel, accepted: tuple[str, ...], picked: str
) -> None:
    """The table was read off a server of grpcio 1.85."""
    assert answer_encoding(level, accepted) == picked


def test_an_answer_that_is_too_long_is_refused_in_cores_words() -> None:
    check_sent(10, 10)
    with pytest.raises(CallFault) as raised:
        check_sent(11, 10)
    assert (raised.value.code, raised.value.message) == (
        EXHAUSTED,
        "SERVER: Sent message larger than max (11 vs. 10)",
    )


def test_what_is_offered_is_what_is_served() -> None:
    assert tuple(ACCEPT_ENCODING.split(", ")) == SUPPORTED
