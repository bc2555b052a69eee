"""Why a setting's value is refused, in words for the operator rather than in the validator's. Pure."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_WHOLE_NUMBER = "it must be a whole number"
_PLAIN = {
    "int_parsing": _WHOLE_NUMBER,
    "int_parsing_size": _WHOLE_NUMBER,
    "int_from_float": _WHOLE_NUMBER,
    "int_type": _WHOLE_NUMBER,
    "float_parsing": "it must be a number",
    "float_type": "it must be a number",
    "finite_number": "it must be a finite number",
    "string_pattern_mismatch": "it must be a name without blanks and slashes",
    "too_short": "it names nothing",
}
_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}
_REASONS = {"exit_timeout_secs": ", so that what was accepted is answered"}
"""Why a field's bound is what it is, where Triton's is another."""


def refusal(field: str, detail: Mapping[str, Any]) -> str:
    """What a value of `field` must be, and which word may have been meant; `detail` is pydantic's."""
    kind = detail["type"]
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        bound = detail["ctx"][key]
        shown = int(bound) if bound == int(bound) else bound  # 0, not 0.0
        return f"it must be {words} {shown}{_REASONS.get(field, '')}"
    if kind == "literal_error":
        return _choice(str(detail["input"]), re.findall(r"'([^']*)'", detail["ctx"]["expected"]))
    return str(detail["msg"]).removeprefix("Value error, ")


def _choice(given: str, words: list[str]) -> str:
    near = difflib.get_close_matches(given.strip().lower(), words, n=1)
    return f"it must be one of {', '.join(words)}" + (f"; did you mean {near[0]}?" if near else "")
