"""Values of gRPC's headers say on one side what was said on the other, and nothing else is taken."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naiad.services.http2.metadata import percent_encoded, received, sent, text, timeout_ns

HOUR_NS = 3_600 * 10**9


@pytest.mark.parametrize(
    ("value", "expected_ns"),
    [
        (b"1H", HOUR_NS),
        (b"1M", 60 * 10**9),
        (b"1S", 10**9),
        (b"1m", 10**6),
        (b"1u", 1_000),
        (b"1n", 1),
        (b"0S", 0),
        (b"1010m", 1_010_000_000),
        (b"00000010n", 10),
        (b"99999999H", 99_999_999 * HOUR_NS),
    ],
)
def test_timeouts(value: bytes, expected_ns: int) -> None:
    assert timeout_ns(value) == expected_ns


NO_TIMEOUTS = [
    b"",
    b"1",
    b"S",
    b"1s",
    b"1h",
    b"-1S",
    b"+1S",
    b"0.5S",
    b" 1S",
    b"1S ",
    b"1 S",
    b"1S\n",
    b"1SS",
    b"\xb2S",
]


@pytest.mark.parametrize("value", [*NO_TIMEOUTS, b"000000001S", b"100000000n"])
def test_what_is_no_timeout_is_not_taken(value: bytes) -> None:
    with pytest.raises(ValueError, match="is not 1 to 8 digits and one of H, M, S, m, u, n"):
        timeout_ns(value)


@given(st.binary(max_size=40), st.booleans())
def test_a_binary_value_is_read_with_and_without_padding(value: bytes, padded: bool) -> None:
    encoded = b64encode(value)
    assert received(b"a-bin", encoded if padded else encoded.rstrip(b"=")) == [("a-bin", value)]


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=5), st.sampled_from([b",", b", "]))
def test_several_binary_values_in_one_field_are_several_entries(values: list[bytes], comma: bytes) -> None:
    joined = comma.join(b64encode(value).rstrip(b"=") for value in values)
    assert received(b"a-bin", joined) == [("a-bin", value) for value in values]


@pytest.mark.parametrize(
    "value",
    [b"A", b"A===", b"AAE==", b"!!!!", b"-_-_", b"AA==AA==", b"AA E", b"=", b"====", b"AAEC\xff", b"AAECA"],
)
def test_what_is_no_base64_is_not_taken(value: bytes) -> None:
    with pytest.raises(ValueError, match="illegal base64 encoding"):
        received(b"a-bin", value)


def test_a_text_stays_one_entry_commas_and_all() -> None:
    assert received(b"a", b" b, c ") == [("a", " b, c ")]


def test_texts_are_utf_8_and_else_latin_1() -> None:
    assert (text("é".encode()), text(b"\xff\xfe")) == ("é", "ÿþ")


keys = st.from_regex(r"x-[a-z0-9_.\-]{0,20}", fullmatch=True).filter(lambda key: not key.endswith("-bin"))
printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=50)


@given(st.lists(st.tuples(keys, printable) | st.tuples(keys.map("{}-bin".format), st.binary(max_size=50))))
def test_what_is_sent_is_received(metadata: list[tuple[str, str | bytes]]) -> None:
    back = [entry for key, value in sent(metadata) for entry in received(key, value)]
    assert back == [(key, value.strip(" ") if isinstance(value, str) else value) for key, value in metadata]


def test_bytes_are_texts_and_texts_are_bytes_where_the_key_says_so() -> None:
    assert sent([("a", b"b"), ("a-bin", "b")]) == [(b"a", b"b"), (b"a-bin", b"Yg")]


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("", "1", "metadata key '' is not of lower-case"),
        ("Upper", "1", "metadata key 'Upper' is not of lower-case"),
        (":path", "1", "metadata key ':path' is not of lower-case"),
        ("a b", "1", "metadata key 'a b' is not of lower-case"),
        ("é", "1", "metadata key 'é' is not of lower-case"),
        ("\ud800", "1", "is not of lower-case"),
        ("a\n", "1", "is not of lower-case"),
        ("grpc-status", "0", "metadata key 'grpc-status' is the protocol's own"),
        ("content-type", "x", "metadata key 'content-type' is the protocol's own"),
        ("connection", "close", "metadata key 'connection' is the protocol's own"),
        ("a", "é", "the value of metadata key 'a' is not of printable ASCII"),
        ("a", "1\n2", "the value of metadata key 'a' is not of printable ASCII"),
        ("a", "\ud800", "the value of metadata key 'a' is not of printable ASCII"),
        ("a", b"\0", "the value of metadata key 'a' is not of printable ASCII"),
    ],
)
def test_what_cannot_be_sent_is_named(key: str, value: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        sent([(key, value)])


@pytest.mark.parametrize(
    ("message", "encoded"),
    [
        ("", b""),
        ("no such model: 'a/b' (1 of 2)?", b"no such model: 'a/b' (1 of 2)?"),
        ("100%", b"100%25"),
        ("a\tb\r\nc\x7f", b"a%09b%0D%0Ac%7F"),
        ("é€😀", b"%C3%A9%E2%82%AC%F0%9F%98%80"),
        (" a  b  ", b"%20a  b%20%20"),
        ("  ", b"%20%20"),
        ("~!@#$^&*()_+`-={}[]|\\:\";<>,./'", b"~!@#$^&*()_+`-={}[]|\\:\";<>,./'"),
        ("\ud800", b"\\ud800"),
    ],
)
def test_messages_are_percent_encoded(message: str, encoded: bytes) -> None:
    assert percent_encoded(message, 1_000) == encoded


@given(st.text(max_size=60), st.integers(0, 80))
def test_a_cut_message_is_the_begin_of_the_whole_one(message: str, max_bytes: int) -> None:
    encoded = percent_encoded(message, max_bytes)
    assert len(encoded) <= max_bytes
    assert all(0x20 <= byte < 0x7F for byte in encoded)
    told = unquote(encoded.decode(), errors="strict")
    assert message.startswith(told)
    if len(percent_encoded(message, 10_000)) <= max_bytes:
        assert told == message


def test_a_message_is_cut_at_no_more_than_one_character() -> None:
    assert percent_encoded("€" * 100, 100) == b"%E2%82%AC" * 11
    assert percent_encoded("a" * 100, 50) == b"a" * 50
    assert percent_encoded("a" + " " * 9_000 + "b", 8_000).count(b"%20") == (8_000 - 1) // 3
