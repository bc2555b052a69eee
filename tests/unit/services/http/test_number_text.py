"""Long arrays cut out of a JSON text: the same values as the parser gives, and the same refusals."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest

from naiad.core.errors import InvalidArgumentError
from naiad.services.http import number_text
from naiad.services.http.number_text import LONG, _backslashes, _string_end, parse_long_object


def flat(value: Any) -> list[Any]:
    if not isinstance(value, list):
        return [value]
    return list(itertools.chain.from_iterable(map(flat, value)))


def cut(text: bytes) -> tuple[Any, list[Any]]:
    """The object, and the numbers of its one array that was cut out."""
    value, arrays = parse_long_object(text, max_nesting=100)
    (array,) = arrays.values()
    return value, flat(list(array))


@pytest.mark.parametrize("rows", [1, 3, 20_000])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_long_array_comes_in_pieces_with_the_values_that_the_parser_gives(
    rows: int, indent: int | None
) -> None:
    """Flat or nested, in whatever rows, with blanks or without."""
    source = random.Random(1)
    data: Any = [[source.random() for _ in range(60_000 // rows)] for _ in range(rows)]
    tensor = {"name": 'a "data": [1', "data": data[0] if rows == 1 else data, "shape": [1, 2]}
    value, numbers = cut(json.dumps({"inputs": [tensor], "id": "x"}, indent=indent).encode())
    assert numbers == flat(data)
    name = value["inputs"][0].pop("data")
    assert isinstance(name, str)
    del tensor["data"]
    assert value == {"inputs": [tensor], "id": "x"}


def test_text_within_strings_is_never_taken_for_an_array() -> None:
    text = json.dumps({"id": '"data":[' + "1," * LONG + "1]", "data": "[" * LONG}).encode()
    value, arrays = parse_long_object(text, max_nesting=100)
    assert not arrays
    assert value == json.loads(text)


def test_short_texts_and_texts_of_many_strings_are_parsed_whole() -> None:
    short = {"data": [1, 2]}
    many = {"data": ["x" * 5] * 20_000}
    for tree in (short, many):
        assert parse_long_object(json.dumps(tree).encode(), max_nesting=100) == (tree, {})


PAD = "1," * LONG


@pytest.mark.parametrize(
    "array",
    [
        f"[{PAD}]", f"[,{PAD}1]", f"[{PAD},1]", f"[{PAD}[,1]]", f"[[{PAD}1,],1]", f"[{PAD}1 2]", f"[{PAD}1][1]", f"[{PAD}x]",
        f"[{PAD}1", f"[{PAD}1]]", f"[{PAD}1}}]", f"[{PAD}[1}}]", f"[{PAD}01]", f"[{PAD}1,{' ' * LONG}]", f"[{',' * LONG}{PAD}1]",
    ],
)  # fmt: skip
def test_what_the_parser_refuses_is_refused_piece_by_piece_too(array: str) -> None:
    text = f'{{"data":{array}}}'.encode()
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    with pytest.raises(InvalidArgumentError, match="failed to parse the request JSON buffer"):
        read_whole(text)


def read_whole(text: bytes) -> None:
    for array in parse_long_object(text, max_nesting=100)[1].values():
        list(array)


def test_cuts_at_every_comma_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With pieces of one byte every bracket meets a cut; what parses and what does not stays the same."""
    monkeypatch.setattr(number_text, "STEP", 1)
    monkeypatch.setattr(number_text, "LONG", 1)
    source = random.Random(3)
    for _ in range(3_000):
        array = "[" + "".join(source.choices("[],,11", k=source.randrange(1, 12))) + "]"
        text = f'{{"data":{array}}}'.encode()
        try:
            expected = flat(json.loads(text)["data"])
        except ValueError:
            expected = None
        try:
            value, arrays = parse_long_object(text, max_nesting=100)
            numbers = flat([piece for each in arrays.values() for piece in each])
            got = numbers if arrays else flat(value["data"])
        except InvalidArgumentError:
            got = None
        assert got == expected, array


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 255, 256, 257, 70_000, 70_001])
@pytest.mark.parametrize("start", [0, 3])
def test_backslashes_before_a_quote_are_counted_back_to_the_strings_start(count: int, start: int) -> None:
    text = b"\\" * start + b"x" * (start > 0) + b"\\" * count + b'"'
    at = start + (start > 0)
    assert _backslashes(text, at, len(text) - 1) == count
    assert (_string_end(text, at) == len(text) - 1) == (count % 2 == 0)
