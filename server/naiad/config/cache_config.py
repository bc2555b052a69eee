"""`--cache-config NAME,KEY=VALUE`: the response cache's size. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

LOCAL_CACHE = "local"
"""The one cache there is: in this process's memory."""

SIZE = "size"


def parse_cache_config(entries: Iterable[str]) -> int:
    """The bytes that cached responses may take; 0 where no entry asks for a cache. The last size counts.

    Raises:
        ValueError: an entry has another form, another cache than `local`, an unknown key, or a size that is
            no whole number from 1.
    """
    size = 0
    for entry in entries:
        setting, equals, value = entry.partition("=")
        name, comma, key = setting.partition(",")
        if not comma:
            raise ValueError(
                "No cache specified. --cache-config option format is <cache name>,<setting>=<value>. "
                f"Got {entry}"
            )
        if not (equals and name and key and value):
            raise ValueError(f"--cache-config option format is '<cache name>,<setting>=<value>'. Got {entry}")
        if name != LOCAL_CACHE:
            raise ValueError(
                f"cache '{name}' is not served, only '{LOCAL_CACHE}': no cache library is loaded"
            )
        if key != SIZE:
            raise ValueError(f"unknown setting '{key}' of the {LOCAL_CACHE} cache; known: {SIZE}")
        size = _size(entry, value)
    return size


def _size(entry: str, value: str) -> int:
    if not (value.isascii() and value.isdecimal()) or not int(value):
        raise ValueError(f"'{entry}': '{value}' should be a number of bytes from 1")
    return int(value)
