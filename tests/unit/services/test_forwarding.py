"""Which headers become parameters of a request, and which never do."""

from __future__ import annotations

import re

import pytest

from naiad.core.errors import InvalidArgumentError
from naiad.services.forwarding import MAX_NAME, MAX_PATTERN, RESERVED, forward_pattern, forwarded

FLAG = "--grpc-header-forward-pattern"


def take(metadata: list[tuple[str, str | bytes]], pattern: str, **options: frozenset[str]) -> dict[str, str]:
    return forwarded(metadata, forward_pattern(pattern, flag=FLAG), **options)


def test_nothing_is_forwarded_without_a_pattern() -> None:
    assert forward_pattern("", flag=FLAG) is None
    assert forwarded([("x-tenant", "a"), ("priority", "1")], None) == {}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("^x-", {"x-tenant", "x-user"}),
        ("tenant", {"x-tenant"}),  # any part of the name
        ("TENANT", {"x-tenant"}),  # in any case
        ("^(x-user|accept)$", {"x-user", "accept"}),
        (".*", {"x-tenant", "x-user", "accept"}),
        ("^$", set()),
    ],
)
def test_a_pattern_matches_any_part_of_a_name_in_any_case(pattern: str, names: set[str]) -> None:
    metadata: list[tuple[str, str | bytes]] = [("x-tenant", "a"), ("X-User", "b"), ("accept", "c")]
    assert set(take(metadata, pattern)) == names


def test_a_name_that_comes_twice_keeps_both_values() -> None:
    assert take([("x-a", "1"), ("X-A", "2")], "x-a") == {"x-a": "1, 2"}


def test_a_binary_value_is_forwarded_as_it_travelled() -> None:
    assert take([("x-a-bin", b"\x00\xff")], "x-a") == {"x-a-bin": "AP8="}


@pytest.mark.parametrize("name", sorted(RESERVED | {"triton_grpc_error", "Triton_Anything", "Priority"}))
def test_a_reserved_name_is_refused_in_tritons_words(name: str) -> None:
    """Else a header would be read as the request's own sequence, priority or timeout."""
    with pytest.raises(InvalidArgumentError) as raised:
        take([("x-a", "1"), (name, "2")], ".*")
    assert raised.value.message == f"Header '{name}' is reserved for Triton usage and cannot be forwarded."


def test_a_reserved_name_that_does_not_match_is_nobodys_business() -> None:
    assert take([("x-a", "1"), ("priority", "2")], "^x-") == {"x-a": "1"}


def test_secrets_of_restricted_protocols_are_never_forwarded() -> None:
    metadata: list[tuple[str, str | bytes]] = [("triton-grpc-protocol-k", "s"), ("Api-Key", "s"), ("a", "1")]
    assert take(metadata, ".*", hidden=frozenset({"api-key"})) == {"a": "1"}


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(", "missing ), unterminated subpattern"),
        ("a{99999999999999999999}", "repetition number is too large"),
        ("[[:alpha:]]+", "Possible nested set"),
        (r"\pL", r"bad escape \p"),
    ],
)
def test_what_is_no_pattern_here_is_refused_by_the_flags_name(pattern: str, said: str) -> None:
    """Also what RE2 reads and Python would read as something else."""
    with pytest.raises(InvalidArgumentError, match=re.escape(f"{FLAG}={pattern}: ") + ".*" + re.escape(said)):
        forward_pattern(pattern, flag=FLAG)


def test_a_pattern_is_bounded() -> None:
    assert forward_pattern("a" * MAX_PATTERN, flag=FLAG)
    with pytest.raises(InvalidArgumentError, match=f"{FLAG} has 1025 characters, the limit is 1024"):
        forward_pattern("a" * (MAX_PATTERN + 1), flag=FLAG)


def test_a_name_that_is_too_long_is_not_even_looked_at() -> None:
    """A pattern that begins with `.*` takes the square of it to find that it does not match."""
    name = "x" * MAX_NAME
    assert take([(name, "1"), (name + "x", "2")], ".*x") == {name: "1"}
