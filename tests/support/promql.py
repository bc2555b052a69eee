"""The names in a PromQL expression, as far as holding them against a server's metrics needs them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_SELECTOR = re.compile(r"\b((?:nv|naiad|process)_[a-z_]+|up)\b(?:{([^}]*)})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")


class Matcher(NamedTuple):
    """`label op "value"` in a selector."""

    label: str
    operator: str
    value: str


def selectors(expression: str) -> Iterator[tuple[str, list[Matcher]]]:
    """Every metric in the expression with the matchers in its braces."""
    for name, matchers in _SELECTOR.findall(_without_groupings(expression)):
        yield name, [Matcher(*found) for found in _MATCHER.findall(matchers)]


def grouping_labels(expression: str) -> set[str]:
    """The labels in `by (…)` and its like."""
    return {label.strip() for labels in _GROUPING.findall(expression) for label in labels.split(",")}


def _without_groupings(expression: str) -> str:
    """So that no label there is taken for a metric."""
    return _GROUPING.sub("", expression)
