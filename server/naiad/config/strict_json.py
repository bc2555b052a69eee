"""JSON as it is written: no name twice, no NaN, an object at the top. Pure."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from naiad.core.errors import InvalidArgumentError


def parse_object(text: str, source: str) -> dict[str, Any]:
    """The JSON object that `text` spells.

    Args:
        text: JSON.
        source: what to call it in an error.

    Raises:
        InvalidArgumentError: it is no JSON, a name is given twice, a number is NaN or infinite, or it is no
            object; names `source`.
    """
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"{source} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"{source} is not a JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of distinct keys: of two values one would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise ValueError(f"'{next(name for name in counts if counts[name] > 1)}' is given twice")
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
