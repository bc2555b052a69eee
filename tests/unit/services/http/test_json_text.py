"""JSON texts: how deep they may nest, and what is said of those that are none."""

from __future__ import annotations

import json
import random

import pytest

from naiad.core.errors import InvalidArgumentError
from naiad.services.http.json_text import _ESCAPES_STEP, MAX_VALUES, NestingError, nesting, parse_object


def nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_a_hundred_levels_are_parsed_and_one_more_is_refused() -> None:
    assert parse_object(nested(100))
    with pytest.raises(NestingError, match=r"JSON nesting depth exceeds maximum allowed limit \(100\)"):
        parse_object(nested(101))


def test_hostile_depth_is_refused_before_the_parser_descends() -> None:
    with pytest.raises(NestingError):
        parse_object(b'{"ready":' + b"[" * 250_000 + b"true" + b"]" * 250_000 + b"}")
    with pytest.raises(NestingError):
        parse_object(b'{"a":' * 250_000)


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


def test_the_depth_is_that_of_the_parsed_value_whatever_strings_hold() -> None:
    """Brackets, quotes and backslashes in strings count for nothing."""
    source = random.Random(7)

    def value(depth: int) -> object:
        kind = source.randrange(4)
        if depth == 0 or kind == 0:
            return "".join(source.choices('[]{}"\\,:a', k=source.randrange(8)))
        if kind == 1:
            return {str(key): value(depth - 1) for key in range(source.randrange(3))}
        return [value(depth - 1) for _ in range(source.randrange(4))]

    for _ in range(300):
        tree = value(8)
        assert nesting(json.dumps(tree).encode()) == depth_of(tree)


def test_depth_is_counted_across_the_steps_of_a_long_text() -> None:
    text = b"[" * 60 + b" " * (3 * 2**20) + b"[" * 50 + b'"' + b"[" * 2**20 + b'"' + b"]" * 110
    assert nesting(text) == 110


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"[1]", b'"x"', b"null", b"\xff\xfe", b'{"a":1}x', b"{'a':1}", b'{"a":' + b"9" * 5_000 + b"}",
        '{"a":1}'.encode("utf-16"), b"\xef\xbb\xbf{}",
    ],
)  # fmt: skip
def test_what_is_no_object_in_utf_8_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match="failed to parse the request JSON buffer: "):
        parse_object(text)


@pytest.mark.parametrize("text", [rb'{"a":"\ud800"}', rb'{"\uDFFF":1}', rb'{"a":[["x\ud83dy"]]}'])
def test_half_a_surrogate_pair_is_refused(text: bytes) -> None:
    """JSON can spell it, and no protobuf message can hold it."""
    with pytest.raises(InvalidArgumentError, match="failed to parse the request JSON buffer: "):
        parse_object(text)


def test_whole_surrogate_pairs_and_what_only_looks_like_half_of_one_are_text() -> None:
    assert parse_object(rb'{"a":"\ud83d\ude00","b":"\\ud800"}') == {"a": "\U0001f600", "b": "\\ud800"}


def test_numbers_that_json_lacks_are_numbers() -> None:
    value = parse_object(b'{"a":[NaN,Infinity,-Infinity]}')["a"]
    assert str(value) == "[nan, inf, -inf]"


@pytest.mark.parametrize(
    ("items", "allowed"),
    [("1,", MAX_VALUES - 15), ('"ab",', MAX_VALUES - 15), ("[],", MAX_VALUES // 5 - 10), ("{},", MAX_VALUES // 5 - 10)],
    ids=["numbers", "strings", "arrays", "objects"],
)  # fmt: skip
def test_a_text_holds_so_many_values_and_no_more(items: str, allowed: int) -> None:
    """The parser lets nothing else run: a small compressed body must not stop the server for seconds."""

    def text(count: int) -> bytes:
        return f'{{"a":[{items * count}0]}}'.encode()

    assert len(parse_object(text(allowed))["a"]) == allowed + 1
    with pytest.raises(
        InvalidArgumentError, match=rf"the request JSON holds \d+ values .* {MAX_VALUES}: send"
    ):
        parse_object(text(allowed + 20))


def test_what_only_looks_like_values_in_a_string_is_not_counted() -> None:
    noise = '{":[,\\"' * MAX_VALUES
    assert parse_object(json.dumps({"a": noise, "b": [1]}).encode()) == {"a": noise, "b": [1]}


@pytest.mark.parametrize("before", range(4))
def test_escapes_that_a_step_cuts_in_two_are_still_escapes(before: int) -> None:
    text = b'{"' + b" " * (_ESCAPES_STEP - 6 + before) + rb"\"[\\" + b'":[[[]]]}'
    json.loads(text)
    assert nesting(text) == 4
