"""JSON objects as they are written: what other parsers let pass is refused here, with the source's name."""

from __future__ import annotations

import pytest

from naiad.config.strict_json import parse_object
from naiad.core.errors import InvalidArgumentError


def test_an_object_is_read_as_it_is_written() -> None:
    assert parse_object('{"a": {"b": [1, 2.5, null, "ü"]}}', "x") == {"a": {"b": [1, 2.5, None, "ü"]}}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": {"b": 1, "c": 2, "b": 1}}', "x is not JSON: 'b' is given twice"),
        ('{"a": -Infinity}', "x is not JSON: -Infinity is no JSON number"),
        ('{"a": 1} {}', "x is not JSON: Extra data: line 1 column 10 (char 9)"),
        ('"a"', "x is not a JSON object"),
        ("null", "x is not a JSON object"),
    ],
)
def test_what_is_no_plain_object_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_object(text, "x")
    assert caught.value.message == reason
