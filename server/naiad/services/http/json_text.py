"""JSON texts of callers: parsed within limits, and refused in Triton's words."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from naiad.core.errors import InvalidArgumentError

MAX_NESTING = 100
"""How deep arrays and objects may lie in each other."""

_STEP = 2**20
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_QUOTE, _OPENING, _CLOSING = b'"', b"[{", b"]}"
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_WORDS = {str: "string", list: "array", bool: "boolean", dict: "object"}


class NestingError(InvalidArgumentError):
    """A text that nests too deep to be parsed."""


def parse_object(text: bytes, *, max_nesting: int = MAX_NESTING) -> dict[str, Any]:
    """A JSON object; `NaN`, `Infinity` and `-Infinity` are numbers.

    Raises:
        NestingError: it nests deeper than `max_nesting`.
        InvalidArgumentError: it is no JSON in UTF-8, a string in it is no Unicode, or it is no object.
    """
    check_nesting(text, max_nesting)
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
    if b"\\" in text:
        text = _ESCAPE.sub(b"", text)
    depth = deepest = quotes = 0
    for start in range(0, len(text), _STEP):
        chars = np.frombuffer(text[start : start + _STEP], dtype=np.uint8)
        marks = np.flatnonzero(np.isin(chars, list(_QUOTE + _OPENING + _CLOSING)))
        kinds = chars[marks]
        is_quote = kinds == ord(_QUOTE)
        outside = (quotes + np.cumsum(is_quote)) % 2 == 0
        steps = np.isin(kinds, list(_OPENING)).astype(np.int64) - np.isin(kinds, list(_CLOSING))
        steps[~outside] = 0
        if steps.size:
            deepest = max(deepest, depth + int(np.cumsum(steps).max()))
            depth += int(steps.sum())
            quotes += int(is_quote.sum())
    return deepest


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
