"""Restricted protocols: categories of calls for which a caller must send a header with the right value."""

from __future__ import annotations

import hmac
import re
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

GRPC_KEY_PREFIX = "triton-grpc-protocol-"
"""What stands before a rule's key in the metadata of a gRPC caller."""

# What both gRPC metadata and HTTP headers can carry as a name and as a value.
_KEY = re.compile(r"[0-9A-Za-z_.-]+")
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")


class Category(StrEnum):
    """What can be restricted, in Triton's words."""

    HEALTH = "health"
    METADATA = "metadata"
    INFERENCE = "inference"
    SHARED_MEMORY = "shared-memory"
    MODEL_CONFIG = "model-config"
    MODEL_REPOSITORY = "model-repository"
    STATISTICS = "statistics"
    TRACE = "trace"
    LOGGING = "logging"


class Restriction(NamedTuple):
    """The header that opens a category: its name as the operator wrote it, and its secret value."""

    key: str
    value: str

    def __repr__(self) -> str:
        return f"Restriction(key={self.key!r}, value=…)"

    def accepts(self, offered: str | bytes) -> bool:
        """Whether the value is the right one, in a time that does not tell how much of it is."""
        # As UTF-8 with surrogates: a caller's bytes must never make the comparison itself fail.
        given = offered if isinstance(offered, bytes) else offered.encode(errors="surrogatepass")
        return hmac.compare_digest(given, self.value.encode())


def parse_restrictions(texts: Iterable[str], *, flag: str) -> Mapping[Category, Restriction]:
    """Read `CATEGORY[,CATEGORY]:KEY=VALUE` rules.

    Args:
        texts: the rules, one for each time that the flag was given.
        flag: the flag's name, `--grpc-restricted-protocol` or `--http-restricted-api`.

    Raises:
        InvalidArgumentError: naming the flag, the rule without its secret, and what is wrong.
    """
    # Triton calls them by the flag's last word, and scripts look for these texts.
    noun = flag.rsplit("-", 1)[-1]
    found: dict[Category, Restriction] = {}
    for text in texts:
        where = f"{flag} {_without_secret(text)}"
        names, restriction = _parse_rule(text, where)
        for name in names:
            category = _category(name, noun, where)
            if category in found:
                raise InvalidArgumentError(
                    f"{where}: restricted {noun} '{name}' can not be specified in multiple config groups"
                )
            found[category] = restriction
    return MappingProxyType(found)


def _parse_rule(text: str, where: str) -> tuple[list[str], Restriction]:
    names, colon, setting = text.partition(":")
    key, equals, value = setting.partition("=")
    if not (names and colon and equals):
        raise InvalidArgumentError(f"{where}: the format is CATEGORY[,CATEGORY]:KEY=VALUE")
    if not _KEY.fullmatch(key):
        raise InvalidArgumentError(f"{where}: key '{key}' must be letters, digits, '-', '_' and '.'")
    if not _VALUE.fullmatch(value):
        raise InvalidArgumentError(
            f"{where}: the value must be printable ASCII, not empty, with no blank at either end"
        )
    return names.split(","), Restriction(key, value)


def _category(name: str, noun: str, where: str) -> Category:
    try:
        return Category(name)
    except ValueError:
        known = ", ".join(Category)
        raise InvalidArgumentError(f"{where}: unknown restricted {noun} '{name}'; known: {known}") from None


def _without_secret(text: str) -> str:
    name, equals, _ = text.partition("=")
    if equals:
        return f"'{name}=…'"
    # Without its "=" there is no telling where the secret begins, unless nothing but a key can be meant.
    names, colon, key = text.partition(":")
    return f"'{names}:…'" if colon and key else f"'{text}'"
