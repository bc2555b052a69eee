"""JSON texts of callers: parsed within limits, and refused in Triton's words."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

MAX_NESTING = 100
"""How deep arrays and objects may lie in each other."""

MAX_VALUES = 1_000_000
"""Values of one text, where an array, an object or a member counts as five: a tenth of a second's work, in
which Python's parser lets nothing else run. Long arrays of numbers are cut out before (`number_text.py`)."""

_STEP = 2**20
_ESCAPES_STEP = 2**16
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_QUOTE, _OPENING, _CLOSING, _COMMA, _COLON = b'"', b"[{", b"]}", b",", b":"
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_WORDS = {str: "string", list: "array", bool: "boolean", dict: "object"}


class NestingError(InvalidArgumentError):
    """A text that nests too deep to be parsed."""


def parse_object(text: bytes, *, max_nesting: int = MAX_NESTING) -> dict[str, Any]:
    """A JSON object; `NaN`, `Infinity` and `-Infinity` are numbers.

    Raises:
        NestingError: it nests deeper than `max_nesting`.
        InvalidArgumentError: it is no JSON in UTF-8, a string in it is no Unicode, it is no object, or it
            holds more than `MAX_VALUES`.
    """
    check_nesting(text, max_nesting)
    _check_values(text)
    try:
        value = json.loads(text.decode("utf-8"))
        if _SURROGATE.search(text):
            _check_unicode(value)
    except ValueError as error:
        raise unparsable(error) from None
    if not isinstance(value, dict):
        raise unparsable("The document must be an object.")
    return value


def _check_unicode(value: Any) -> None:
    """Refuse half a surrogate pair, which no message of ours can hold; ValueError if there is one."""
    json.dumps(value, ensure_ascii=False).encode("utf-8")


def unparsable(reason: object) -> InvalidArgumentError:
    """The error for a text that is no JSON."""
    return InvalidArgumentError(f"failed to parse the request JSON buffer: {reason}")


def check_nesting(text: bytes, limit: int) -> None:
    """See that the parser will not have to descend too deep.

    Raises:
        NestingError: deeper than `limit`.
    """
    # Most texts have too few brackets to nest too deep, and counting them costs next to nothing.
    if text.count(b"[") + text.count(b"{") > limit and nesting(text) > limit:
        raise NestingError(f"JSON nesting depth exceeds maximum allowed limit ({MAX_NESTING})")


def nesting(text: bytes) -> int:
    """How deep arrays and objects lie in each other, exact for as far as the text is JSON."""
    depth = deepest = 0
    for kinds in _outside_strings(text, _OPENING + _CLOSING):
        steps = np.isin(kinds, list(_OPENING)).astype(np.int64) - np.isin(kinds, list(_CLOSING))
        deepest = max(deepest, depth + int(np.cumsum(steps).max()))
        depth += int(steps.sum())
    return deepest


def _check_values(text: bytes) -> None:
    # As with the brackets: what stands in strings is told apart only where there is enough to matter.
    if _weight([text.count(char) for char in (_COMMA, b"[", b"{", _COLON)]) <= MAX_VALUES:
        return
    values = 0
    for kinds in _outside_strings(text, _COMMA + _OPENING + _COLON):
        commas = int(np.count_nonzero(kinds == ord(_COMMA)))
        values += _weight([commas, kinds.size - commas])
        if values > MAX_VALUES:
            raise InvalidArgumentError(
                f"the request JSON holds {values} values or more (an array, an object or a member counts as "
                f"five), the limit is {MAX_VALUES}: send large tensors as binary data"
            )


def _weight(counts: Sequence[int]) -> int:
    commas, *others = counts
    return commas + 4 * sum(others)


def _outside_strings(text: bytes, wanted: bytes) -> Iterator[NDArray[np.uint8]]:
    """The wanted characters that stand in no string, in order, in pieces of which none is empty."""
    is_mark = np.zeros(256, dtype=np.bool_)
    is_mark[list(_QUOTE + wanted)] = True
    quotes = 0
    for piece in _without_escapes(text):
        chars = np.frombuffer(piece, dtype=np.uint8)
        kinds = chars[is_mark[chars]]
        is_quote = kinds == ord(_QUOTE)
        outside = (quotes + np.cumsum(is_quote)) % 2 == 0
        quotes += int(is_quote.sum())
        found = kinds[outside & ~is_quote]
        if found.size:
            yield found


def _without_escapes(text: bytes) -> Iterator[bytes]:
    """The text in pieces, less every backslash and what it escapes."""
    if b"\\" not in text:
        yield from (text[start : start + _STEP] for start in range(0, len(text), _STEP))
        return
    left = b""
    for start in range(0, len(text), _ESCAPES_STEP):  # short ones: the substitution lets nothing else run
        piece = _ESCAPE.sub(b"", left + text[start : start + _ESCAPES_STEP])
        # A backslash that is left over is the last character, and escapes the first of the next piece.
        left = b"\\" if piece.endswith(b"\\") else b""
        yield piece


def member(holder: Any, key: str, kind: type) -> Any:
    """A member that must be there, of one type.

    Raises:
        InvalidArgumentError: there is none, or it is of another type.
    """
    if type(holder) is not dict:
        raise wrong_type(key, "object")
    if key not in holder:
        raise InvalidArgumentError(
            f"Unable to parse '{key}': attempt to access non-existing object member '{key}'"
        )
    return typed(key, holder[key], kind)


def typed(key: str, value: Any, kind: type) -> Any:
    """A value that must be of one type.

    Raises:
        InvalidArgumentError: it is of another.
    """
    if type(value) is not kind:
        raise wrong_type(key, _WORDS[kind])
    return value


def unsigned(key: str, value: Any) -> int:
    """A value that must be an integer from 0 to 2**64 - 1.

    Raises:
        InvalidArgumentError: it is another.
    """
    if type(value) is not int or not 0 <= value < 2**64:
        raise wrong_type(key, "unsigned-integer")
    return value


def wrong_type(key: str, wanted: str) -> InvalidArgumentError:
    """The error for a value of the wrong type."""
    return InvalidArgumentError(f"Unable to parse '{key}': attempt to access JSON non-{wanted} as {wanted}")


def dumps(value: Any) -> bytes:
    """A value as JSON without blanks; numbers that JSON lacks are bare `NaN`, `Infinity`, `-Infinity`."""
    return _ENCODER.encode(value).encode("ascii")
