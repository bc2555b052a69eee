"""Headers that become parameters of a request: which are forwarded, and which must not be."""

from __future__ import annotations

import base64
import re
import warnings
from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError
from naiad.services.restricted import GRPC_KEY_PREFIX

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

MAX_PATTERN = 1_024
"""Characters of a forward pattern."""

MAX_NAME = 256
"""Characters of a header's name that can be forwarded: some patterns take the square of it to say no."""

RESERVED = frozenset(
    (
        "sequence_id",
        "sequence_start",
        "sequence_end",
        "priority",
        "timeout",
        "headers",
        "binary_data_output",
    )
)
"""Parameters that Triton reads itself; a header of such a name would be taken for one."""

RESERVED_PREFIX = "triton_"


def forward_pattern(text: str, *, flag: str) -> re.Pattern[str] | None:
    """Compile a forward pattern: it matches any part of a header's name, in any case. Empty forwards nothing.

    Raises:
        InvalidArgumentError: naming the flag, if the pattern is too long or no regular expression.
    """
    if not text:
        return None
    if len(text) > MAX_PATTERN:
        raise InvalidArgumentError(f"{flag} has {len(text)} characters, the limit is {MAX_PATTERN}")
    try:
        with warnings.catch_warnings():
            # Triton's RE2 knows classes like [[:alpha:]], which here would silently mean something else.
            warnings.simplefilter("error", FutureWarning)
            return re.compile(text, re.IGNORECASE)
    except (re.error, FutureWarning, OverflowError, RecursionError) as error:
        raise InvalidArgumentError(f"{flag}={text}: not a regular expression: {error}") from None


def forwarded(
    metadata: Iterable[tuple[str, str | bytes]],
    pattern: re.Pattern[str] | None,
    *,
    hidden: Collection[str] = (),
) -> dict[str, str]:
    """The headers that become string parameters of the request, by lower-case name.

    A name that comes several times has its values joined with `, `; binary gRPC values come as base64, as
    they travelled. Headers that open restricted protocols are never forwarded: they are secrets. Nor is one
    whose name has more than `MAX_NAME` characters.

    Args:
        metadata: names and values, from gRPC or HTTP.
        pattern: from `forward_pattern`; None forwards nothing.
        hidden: more lower-case names that are never forwarded, as the keys of restricted HTTP APIs.

    Raises:
        InvalidArgumentError: a matching name is one of Triton's own parameters.
    """
    if pattern is None:
        return {}
    found: dict[str, str] = {}
    for name, value in metadata:
        key = name.lower()
        if len(name) > MAX_NAME or key.startswith(GRPC_KEY_PREFIX) or key in hidden:
            continue
        if not pattern.search(name):
            continue
        if key in RESERVED or key.startswith(RESERVED_PREFIX):
            raise InvalidArgumentError(
                f"Header '{name}' is reserved for Triton usage and cannot be forwarded."
            )
        text = value if isinstance(value, str) else base64.b64encode(value).decode()
        found[key] = f"{found[key]}, {text}" if key in found else text
    return found
