"""Long arrays of numbers in a JSON text, cut out so that they are parsed in small steps.

Python's JSON parser holds the interpreter's lock from its first byte to its last: a text of 64 MiB would stop
the event loop for more than a second, in whatever thread it is parsed, and its floats would take ten times
the memory of the tensor. So the arrays of `"data"` members are taken out of a long text first; what is left
is short, and each array is parsed in pieces that end at commas, with the brackets that are open there put
around them. A piece parses if and only if that part of the whole would.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import TYPE_CHECKING, Any

from naiad.services.http.json_text import parse_object, unparsable

if TYPE_CHECKING:
    from collections.abc import Iterator

LONG = 65_536
"""Bytes from which an array, and from which a text, is long."""

STEP = 65_536
"""Bytes of an array that are parsed at once, about a millisecond's work."""

MAX_STRINGS = 100_000
"""Texts with more strings are not searched: they are long by their strings."""

_VALUE = re.compile(rb"\s*:\s*(?=\[)")
_BRACKET = re.compile(rb"[\[\]]")
_BLANKS = b" \t\r\n"


class NumberText:
    """An array in a text, as the pieces it is parsed in."""

    def __init__(self, text: bytes, pieces: list[tuple[int, int, int, int]]) -> None:
        self._text = text
        self._pieces = pieces

    def __iter__(self) -> Iterator[list[Any]]:
        """The array in pieces, each with the brackets around it that are open there.

        Raises:
            InvalidArgumentError: a piece is no JSON.
        """
        last = len(self._pieces) - 1
        for index, (start, end, before, after) in enumerate(self._pieces):
            piece = self._text[start:end].strip(_BLANKS)
            # A comma needs a value on both its sides, which the brackets put around a piece would hide.
            if not piece or (index and piece[:1] == b"]") or (index < last and piece[-1:] == b"["):
                raise unparsable(f"Expecting value near byte {start}")
            try:
                yield json.loads((b"[" * before + piece + b"]" * after).decode("utf-8"))
            except ValueError as error:
                raise unparsable(f"near byte {start}: {error}") from None


def parse_long_object(text: bytes, *, max_nesting: int) -> tuple[dict[str, Any], dict[str, NumberText]]:
    """A JSON object, in which long `"data"` arrays are strings that name an array of the second result.

    Raises:
        InvalidArgumentError: as `parse_object`; an array that was cut out is checked as it is read.
    """
    if len(text) < LONG:
        return parse_object(text, max_nesting=max_nesting), {}
    parts: list[bytes] = []
    arrays: dict[str, NumberText] = {}
    done = 0
    # No caller can know the names, so none can stand in the text by itself.
    token = secrets.token_hex(16)
    for start, end, array in _long_arrays(text):
        name = f"{token}-{len(arrays)}"
        parts += (text[done:start], b'"' + name.encode() + b'"')
        arrays[name] = array
        done = end
    parts.append(text[done:])
    return parse_object(b"".join(parts), max_nesting=max_nesting), arrays


def _long_arrays(text: bytes) -> Iterator[tuple[int, int, NumberText]]:
    """Start, end and pieces of each long array that is a member called `data`."""
    if text.count(b'"') > 2 * MAX_STRINGS:
        return
    position = 0
    while (opening := text.find(b'"', position)) >= 0:
        closing = _string_end(text, opening + 1)
        if closing < 0:
            return
        position = closing + 1
        if text[opening:position] != b'"data"':
            continue
        after = text.find(b'"', position)
        end = len(text) if after < 0 else after
        value = _VALUE.match(text, position, end)
        if value and end - value.end() >= LONG:
            array_end, pieces = _pieces(text, value.end(), end)
            if array_end:
                yield value.end(), array_end, NumberText(text, pieces)
                position = array_end


def _string_end(text: bytes, start: int) -> int:
    """Where the quote is that closes a string; -1 if nowhere."""
    end = text.find(b'"', start)
    while end >= 0 and _backslashes(text, start, end) % 2:
        end = text.find(b'"', end + 1)
    return end


def _backslashes(text: bytes, start: int, end: int) -> int:
    """How many of them end at `end`."""
    window = 16
    while True:
        low = max(start, end - window)
        count = end - low - len(text[low:end].rstrip(b"\\"))
        if count < end - low or low == start:
            return count
        window *= 16


def _pieces(text: bytes, start: int, limit: int) -> tuple[int, list[tuple[int, int, int, int]]]:
    """The array's end (0: it does not end before `limit`), and its pieces.

    A piece is its start, its end, and how many brackets are open before and after it.
    """
    pieces: list[tuple[int, int, int, int]] = []
    depth, position = 0, start
    while position < limit:
        comma = text.find(b",", position + STEP, limit)
        stop = limit if comma < 0 else comma
        closed = text.count(b"]", position, stop)
        if closed >= depth and (end := _array_end(text, position, stop, depth)):
            pieces.append((position, end, depth, 0))
            return end, pieces
        after = depth + text.count(b"[", position, stop) - closed
        pieces.append((position, stop, depth, after))
        depth, position = after, stop + 1
    return 0, []


def _array_end(text: bytes, start: int, stop: int, depth: int) -> int:
    """Behind which bracket no more is open; 0 if behind none."""
    for bracket in _BRACKET.finditer(text, start, stop):
        depth += 1 if bracket.group() == b"[" else -1
        if depth == 0:
            return bracket.end()
    return 0
