"""A connection's header blocks are read as a plain decoder reads them, whatever is known, and within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hpack import Decoder, Encoder, HPACKError
from hypothesis import given, settings
from hypothesis import strategies as st

from naiad.services.http2 import frames, headers
from naiad.services.http2.faults import CallFault, ConnectionFault, StreamFault
from naiad.services.http2.headers import CompressionError, HeaderReader, MalformedHeadError, RefusedHeadError
from naiad.services.http2.heads import call_head

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.services.http2.heads import CallHead

CALL = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/a.B/C"),
    (":authority", "here:1"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]

# What grpcio 1.85 puts on the wire for a first call, and for each one after it.
GRPCIO = (
    b"@\x05:path*/inference.GRPCInferenceService/ModelInfer@"
    b"\n:authority\x0f127.0.0.1:43547\x83\x86@"
    b"\x0ccontent-type\x10application/grpc@\x02"
    b"te\x08trailers@\x14"
    b"grpc-accept-encoding\x17identity, deflate, gzip@\n"
    b"user-agent0grpc-python/1.85.1 grpc-c/58.0.0 (linux; chttp2)"
)
GRPCIO_AGAIN = bytes.fromhex("c3c28386c1c0bfbe")


def new_reader(max_block_bytes: int = 32_768, max_list_bytes: int = 16_384) -> HeaderReader:
    return HeaderReader(max_block_bytes=max_block_bytes, max_list_bytes=max_list_bytes)


def block(*more: tuple[str, str], huffman: bool = True) -> bytes:
    """A first block of a connection: a call with more fields."""
    return Encoder().encode([*CALL, *more], huffman=huffman)


def plain(*fields: tuple[bytes, bytes]) -> bytes:
    """Short fields that no table takes."""
    return b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields)


PLAIN_CALL = plain(*[(name.encode(), value.encode()) for name, value in CALL])


def test_a_clients_blocks_are_read_and_its_steady_one_is_decoded_once() -> None:
    reader = new_reader()
    first = reader.read(GRPCIO)
    assert first.path == "/inference.GRPCInferenceService/ModelInfer"
    assert first.accepts == ("identity", "deflate", "gzip")
    assert first.metadata == (("user-agent", "grpc-python/1.85.1 grpc-c/58.0.0 (linux; chttp2)"),)
    second = reader.read(GRPCIO_AGAIN)
    assert second == first
    assert reader.read(bytes(bytearray(GRPCIO_AGAIN))) is second


@pytest.mark.parametrize("huffman", [True, False])
def test_both_ways_of_writing_texts_give_one_head(huffman: bool) -> None:
    more = (("x-text", "some words, and 100% more"), ("x-bin", "AAEC"))
    head = new_reader().read(block(*more, huffman=huffman))
    assert head.metadata == (("x-text", "some words, and 100% more"), ("x-bin", b"\0\1\2"))


def test_one_block_means_something_else_once_the_table_has_changed() -> None:
    reader = new_reader()
    refers = PLAIN_CALL + b"\xbe"
    reader.read(PLAIN_CALL + b"\x40\x01a\x011")
    assert reader.read(refers).metadata == (("a", "1"),)
    reader.read(PLAIN_CALL + b"\x40\x01a\x012")
    assert reader.read(refers).metadata == (("a", "2"),)


def test_trailers_change_the_table_too() -> None:
    reader = new_reader()
    refers = PLAIN_CALL + b"\xbe"
    reader.read(PLAIN_CALL + b"\x40\x01a\x011")
    assert reader.read(refers).metadata == (("a", "1"),)
    reader.read_trailers(b"\x40\x01a\x012")
    assert reader.read(refers).metadata == (("a", "2"),)


def test_a_known_block_whose_entry_a_change_of_size_has_dropped_is_an_error() -> None:
    reader = new_reader()
    refers = PLAIN_CALL + b"\xbe"
    reader.read(PLAIN_CALL + b"\x40\x01a\x011")
    reader.read(refers)
    reader.read(b"\x20\x3f\xe1\x1f" + PLAIN_CALL)  # to none, and back to 4,096
    with pytest.raises(CompressionError, match="Invalid table index 62"):
        reader.read(refers)


# Three entries to begin with, so that most references find something.
FILLING = PLAIN_CALL + b"\x40\x01a\x011\x40\x01b\x012\x40\x0cgrpc-timeout\x021S"
references = st.sampled_from([b"\xbe", b"\xbf", b"\xc0"])
values = st.sampled_from([b"4S", b"5S", b"6" * 30])
changes = (
    st.builds(lambda value: b"\x40\x01c" + bytes([len(value)]) + value, values)
    | st.builds(lambda value: b"\x7e" + bytes([len(value)]) + value, values)
    | st.builds(lambda value: plain((b"d", value)), values)
)
sizes = st.sampled_from([b"\x20", b"\x3f\x31", b"\x3f\xe1\x1f", b"\x20\x3f\xe1\x1f"])
blocks = st.one_of(
    st.builds(PLAIN_CALL.__add__, references),
    st.builds(PLAIN_CALL.__add__, references),
    st.builds(PLAIN_CALL.__add__, changes),
    st.builds(lambda first, second: PLAIN_CALL + first + second, references, changes),
    st.builds(lambda size: size + PLAIN_CALL, sizes),
    st.builds(lambda size, rest: size + PLAIN_CALL + rest, sizes, changes),
    changes,
)


@settings(max_examples=300)
@given(
    st.lists(blocks, min_size=2, max_size=4, unique=True),
    st.lists(st.integers(0, 3), min_size=12, max_size=40),
)
def test_any_sequence_of_blocks_is_read_as_by_a_plain_decoder(pool: list[bytes], order: list[int]) -> None:
    """Few blocks, sent often: bytes that were known come again after every kind of change of the table."""
    reader, judge = new_reader(), Decoder()
    for sent in [FILLING, *(pool[each % len(pool)] for each in order)]:
        expected = outcome(lambda data: call_head(list(judge.decode(data, raw=True))), sent)
        assert outcome(reader.read, sent) == expected
        if expected is None:
            return


def outcome(read: Callable[[bytes], CallHead], data: bytes) -> CallHead | str | None:
    """The head, or what is wrong with it; None if the connection is at its end."""
    try:
        return read(data)
    except (MalformedHeadError, RefusedHeadError) as error:
        return str(error)
    except (HPACKError, CompressionError):
        return None


@given(st.lists(st.binary(max_size=60), max_size=6), st.booleans())
def test_random_bytes_give_heads_or_faults_alone(pool: list[bytes], after_a_call: bool) -> None:
    reader = new_reader()
    for each in pool:
        try:
            reader.read(PLAIN_CALL + each if after_a_call else each)
            reader.read_trailers(each)
        except (StreamFault, CallFault):
            continue
        except ConnectionFault:
            return


def test_blocks_with_an_error_are_refused_each_time() -> None:
    reader = new_reader()
    for _ in range(3):
        with pytest.raises(RefusedHeadError):
            reader.read(PLAIN_CALL + plain((b"grpc-timeout", b"soon")))


def test_a_head_with_an_error_still_fills_the_table() -> None:
    reader = new_reader()
    with pytest.raises(MalformedHeadError):
        reader.read(b"\x40\x01a\x011" + PLAIN_CALL)
    assert reader.read(PLAIN_CALL + b"\xbe").metadata == (("a", "1"),)


def test_a_list_over_the_limit_is_refused_and_the_connection_lives() -> None:
    reader = new_reader(max_list_bytes=1_000)
    with pytest.raises(RefusedHeadError, match=r"\(1312 vs\. 1000 bytes\)") as caught:
        reader.read(block(("a", "v" * 1_000)))
    assert (caught.value.http_status, caught.value.code.name) == (200, "RESOURCE_EXHAUSTED")
    assert reader.read(PLAIN_CALL + b"\xc0").path == "/a.B/C", "te, out of the refused block"


def test_a_short_block_that_stands_for_a_huge_list_ends_the_connection() -> None:
    reader = new_reader(max_list_bytes=8_192)
    reader.read(PLAIN_CALL + b"\x40\x01a\x7f\x81\x17" + b"v" * 3_072)
    with pytest.raises(CompressionError, match="a header list of more than 32768 bytes") as caught:
        reader.read(PLAIN_CALL + b"\xbe" * 11)
    assert caught.value.code == frames.ENHANCE_YOUR_CALM


def test_a_block_over_the_limit_ends_the_connection() -> None:
    with pytest.raises(CompressionError, match="a header block of 101 bytes, and at most 100") as caught:
        new_reader(max_block_bytes=100).read(b"\x82" * 101)
    assert caught.value.code == frames.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    "broken",
    [
        b"\x80",
        b"\xbe",
        b"\x00\x05ab",
        b"\x3f\xe2\x1f",
        b"\x82\x20",
        b"\xff\xff\xff\xff\xff\xff\xff",
        b"\x00\x81\x00\x00",
        b"\x40",
    ],
    ids=[
        "index 0",
        "no such entry",
        "cut",
        "a table of 4,097 bytes",
        "a size behind a field",
        "a huge number",
        "Huffman's padding",
        "nothing behind",
    ],
)
def test_a_block_that_cannot_be_decoded_ends_the_connection(broken: bytes) -> None:
    for read in (new_reader().read, new_reader().read_trailers):
        with pytest.raises(CompressionError) as caught:
            read(broken)
        assert caught.value.code == frames.COMPRESSION_ERROR


@pytest.mark.parametrize("size", [b"\x20", b"\x3f\xe1\x1f"])
def test_a_flood_of_changes_of_the_tables_size_ends_the_connection(size: bytes) -> None:
    assert new_reader().read(size * 8 + PLAIN_CALL).path == "/a.B/C"
    with pytest.raises(CompressionError, match="more than 8 changes") as caught:
        new_reader().read(size * 9 + PLAIN_CALL)
    assert caught.value.code == frames.ENHANCE_YOUR_CALM


def test_what_is_known_is_bounded() -> None:
    reader = new_reader()
    for number in range(10 * headers.MAX_KNOWN):
        reader.read(PLAIN_CALL + plain((b"a", b"%d" % number)))
        assert len(reader._known) <= headers.MAX_KNOWN
    reader._known.clear()
    reader.read(PLAIN_CALL + plain((b"a", b"v" * 100)) * 10)
    assert not reader._known, "a long block is not kept"
    reader.read(PLAIN_CALL + b"\x40\x01a\x7f\x81\x06" + b"v" * 896)
    reader.read(PLAIN_CALL + b"\xbe" * 5)
    assert not reader._known, "a short block that stands for much is not kept"
    reader.read(PLAIN_CALL + b"\xbe")
    assert len(reader._known) == 1


@pytest.mark.parametrize(
    ("name", "value"), [(b":path", b"/a"), (b"Upper", b"1"), (b"connection", b"close"), (b"a", b"1\n2")]
)
def test_trailers_that_http_does_not_allow_end_their_stream(name: bytes, value: bytes) -> None:
    with pytest.raises(MalformedHeadError) as caught:
        new_reader().read_trailers(plain((name, value)))
    assert caught.value.code == frames.PROTOCOL_ERROR


def test_trailers_are_forgotten() -> None:
    reader = new_reader()
    reader.read_trailers(b"")
    reader.read_trailers(plain((b"a", b"1"), (b"b-bin", b"no base64")))
    assert not reader._known
