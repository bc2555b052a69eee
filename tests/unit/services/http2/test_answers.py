"""Blocks of answers say what they should to any decoder, fit every client, and fill no table."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from naiad.services.http2.answers import (
    INITIAL,
    MAX_TRAILER_BYTES,
    OK_TRAILERS,
    http_refusal_block,
    initial_block,
    trailers_block,
    trailers_only_block,
)

HEAD = [(":status", "200"), ("content-type", "application/grpc")]
CLIENTS_LIMIT = 8_192


def decoded(block: bytes) -> list[tuple[str, str]]:
    """The fields of a block; one that put anything into the table would not fit the next connection."""
    decoder = Decoder()
    fields = [(name.decode(), value.decode()) for name, value in decoder.decode(block, raw=True)]
    assert not decoder.header_table.dynamic_entries
    return fields


def list_bytes(block: bytes) -> int:
    return sum(len(name) + len(value) + 32 for name, value in decoded(block))


def test_the_blocks_that_most_calls_need() -> None:
    assert decoded(INITIAL) == HEAD
    assert decoded(OK_TRAILERS) == [("grpc-status", "0")]
    assert INITIAL == b"\x88\x0f\x10\x10application/grpc", (
        "references to the static table, then a plain literal"
    )
    assert initial_block(None) == INITIAL
    assert trailers_block(0, "") == OK_TRAILERS


def test_an_answers_head() -> None:
    block = initial_block("gzip", (("x", "y"), ("x-bin", b"\0\1")), accept="identity, gzip")
    assert decoded(block) == [
        *HEAD,
        ("grpc-encoding", "gzip"),
        ("grpc-accept-encoding", "identity, gzip"),
        ("x", "y"),
        ("x-bin", "AAE"),
    ]


def test_an_answers_end() -> None:
    end = [("grpc-status", "3"), ("grpc-message", "50%25 of it"), ("x", "y")]
    assert decoded(trailers_block(3, "50% of it", (("x", "y"),))) == end
    assert decoded(trailers_only_block(3, "50% of it", (("x", "y"),))) == [*HEAD, *end]


def test_names_of_the_static_table_are_referred_to() -> None:
    block = trailers_block(0, "", (("retry-after", "5"), ("accept-encoding", "gzip, deflate"), ("age", "")))
    assert decoded(block)[1:] == [("retry-after", "5"), ("accept-encoding", "gzip, deflate"), ("age", "")]
    assert b"retry-after" not in block
    assert b"gzip" not in block


@pytest.mark.parametrize("length", [0, 126, 127, 128, 254, 255, 1_000])
def test_lengths_beyond_one_byte(length: int) -> None:
    assert decoded(trailers_block(0, "", (("x" * 200, "v" * length),)))[1] == ("x" * 200, "v" * length)


@pytest.mark.parametrize(("http_status", "more"), [(405, [("allow", "POST")]), (415, []), (200, [])])
def test_a_refusal_in_https_words_has_grpcs_too(http_status: int, more: list[tuple[str, str]]) -> None:
    assert decoded(http_refusal_block(http_status, 13, "not here")) == [
        (":status", str(http_status)),
        ("content-type", "application/grpc"),
        *more,
        ("grpc-status", "13"),
        ("grpc-message", "not here"),
    ]


@given(st.text(max_size=200), st.integers(0, 16))
def test_any_message_comes_through(message: str, code: int) -> None:
    fields = dict(decoded(trailers_block(code, message)))
    assert fields["grpc-status"] == str(code)
    assert unquote(fields.get("grpc-message", ""), errors="strict") == message


@pytest.mark.parametrize("message", ["a" * 20_000, "é" * 20_000, "😀" * 5_000, "%" * 20_000])
def test_a_long_message_is_cut_to_what_clients_take(message: str) -> None:
    metadata = (("x", "v" * 500), ("x-bin", bytes(500)))
    for block in (trailers_block(3, message, metadata), trailers_only_block(3, message, metadata)):
        assert len(block) < MAX_TRAILER_BYTES
        assert MAX_TRAILER_BYTES - 16 < list_bytes(block) <= MAX_TRAILER_BYTES < CLIENTS_LIMIT
        told = unquote(dict(decoded(block))["grpc-message"], errors="strict")
        assert message.startswith(told)


def test_metadata_that_leave_no_room_leave_an_empty_message() -> None:
    fields = decoded(trailers_block(3, "why", (("x", "v" * 9_000),)))
    assert fields[:2] == [("grpc-status", "3"), ("grpc-message", "")]


@pytest.mark.parametrize("make", [trailers_block, trailers_only_block])
def test_metadata_that_cannot_be_sent_are_named(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match="metadata key 'Upper'"):
        make(0, "", (("Upper", "1"),))
    with pytest.raises(ValueError, match="metadata key 'Upper'"):
        initial_block(None, (("Upper", "1"),))
