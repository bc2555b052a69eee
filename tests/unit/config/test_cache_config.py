"""--cache-config: its one form, and Triton's words for another."""

from __future__ import annotations

import pytest

from naiad.config.cache_config import parse_cache_config


@pytest.mark.parametrize(
    ("entries", "size"),
    [((), 0), (("local,size=1",), 1), (("local,size=1", "local,size=1048576"), 1_048_576)],
)
def test_the_last_size_counts_and_none_is_no_cache(entries: tuple[str, ...], size: int) -> None:
    assert parse_cache_config(entries) == size


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("size=1", "No cache specified. --cache-config option format is <cache name>,<setting>=<value>. Got"),
        ("local", "No cache specified"),
        ("local,size", "--cache-config option format is '<cache name>,<setting>=<value>'. Got local,size"),
        (",size=1", "option format is"),
        ("local,=1", "option format is"),
        ("redis,host=h", "cache 'redis' is not served, only 'local'"),
        ("local,bytes=1", "unknown setting 'bytes' of the local cache; known: size"),
        ("local,size=0", "'0' should be a number of bytes from 1"),
        ("local,size=-1", "'-1' should be a number of bytes from 1"),
        ("local,size=1k", "'1k' should be"),
        ("local,size=²", "'²' should be"),
    ],
)
def test_another_form_is_refused(entry: str, words: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011  # what settings turn into one line
        parse_cache_config([entry])
    assert words in str(raised.value)
