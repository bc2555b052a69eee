"""Trace settings: their defaults, their form on the wire, and what an update may say. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, Flag
from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_INT32 = 2**31 - 1
MAX_UINT32 = 2**32 - 1

_UPDATABLE = {
    "trace_level": "level",
    "trace_rate": "rate",
    "trace_count": "count",
    "log_frequency": "log_frequency",
}
"""The settings that callers may change, and the fields that hold them, in the order they are read in."""

_RANGES = {
    "trace_rate": (0, MAX_UINT32),
    "trace_count": (-1, MAX_INT32),
    "log_frequency": (0, MAX_UINT32),
}
_NUMBER = re.compile(
    r"\s*([+-]?\d+)"
)  # what C's stol reads: leading blanks and trailing junk are let through


class TraceLevel(Flag):
    """What a trace keeps; several together are an or."""

    OFF = 0
    TIMESTAMPS = 1
    TENSORS = 2


class TraceMode(Enum):
    """Where traces go; the value is the name in flags and on the wire."""

    TRITON = "triton"
    OPENTELEMETRY = "opentelemetry"


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """The settings of all models or of one.

    Every `rate`-th request is traced, `count` more in all (-1: without end). `log_frequency` traces make one
    indexed file (0: all go into `file`). `options` are OpenTelemetry's, by name, in the order given;
    `unused` are the entries of `--trace-config` that the mode makes no use of.
    """

    level: TraceLevel = TraceLevel.OFF
    rate: int = 1000
    count: int = -1
    log_frequency: int = 0
    file: str = ""
    mode: TraceMode = TraceMode.TRITON
    options: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def problem(self) -> str | None:
        """Why no request can be traced with these settings although the level says so, in Triton's words."""
        if self.rate == 0 and self.mode is TraceMode.TRITON:  # OpenTelemetry: those with a context only
            return "sample rate must be non-zero"
        if self.mode is TraceMode.TRITON and not self.file:
            return "trace file name is not given"
        return None

    @property
    def samples(self) -> bool:
        """Whether a request that comes now could be traced."""
        if self.level is TraceLevel.OFF or self.problem is not None:
            return False
        return self.count != 0 or self.mode is TraceMode.OPENTELEMETRY

    def values(self) -> dict[str, tuple[str, ...]]:
        """The settings as the protocol lists them."""
        levels = tuple(level.name or "" for level in TraceLevel if level in self.level)
        listed: dict[str, tuple[str, ...]] = {
            "trace_level": levels or ("OFF",),
            "trace_rate": (str(self.rate),),
            "trace_count": (str(self.count),),
            "trace_mode": (self.mode.value,),
        }
        if self.mode is TraceMode.TRITON:
            listed |= {"log_frequency": (str(self.log_frequency),), "trace_file": (self.file,)}
        for name, value in self.options:
            listed[name] = (*listed.get(name, ()), value)
        return listed


Changes = dict[str, TraceLevel | int | None]
"""New values by field of `TraceSettings`; None goes back to what the global setting (or the default) says."""


def parse_changes(values: Mapping[str, Sequence[str]]) -> tuple[Changes, list[str]]:
    """What an update asks for.

    Args:
        values: each setting's values as the caller sent them; an empty list clears the setting.

    Returns:
        The changes, and the names that are not settings a caller can change: Triton overlooks them.

    Raises:
        UnsupportedError: the trace file was to be changed.
        InvalidArgumentError: a value is none of the setting's, or there is more than one.
    """
    if "trace_file" in values:
        raise UnsupportedError("trace file location can not be updated through network protocol")
    changes: Changes = {}
    for name, field in _UPDATABLE.items():
        if name not in values:
            continue
        given = values[name]
        if not given:
            changes[field] = None
        elif name == "trace_level":
            changes[field] = _level(given)
        else:
            changes[field] = _number(name, given)
    return changes, sorted(name for name in values if name not in _UPDATABLE)


def _level(names: Sequence[str]) -> TraceLevel:
    if "OFF" in names and len(names) > 1:
        raise InvalidArgumentError("Expect only one trace level 'OFF' is specified")
    level = TraceLevel.OFF
    for name in names:
        if name not in TraceLevel.__members__:
            raise InvalidArgumentError(f"Unable to parse 'trace_level', got: {name}")
        level |= TraceLevel[name]
    return level


def _number(name: str, given: Sequence[str]) -> int:
    if len(given) != 1:
        raise InvalidArgumentError(f"expect only 1 value for '{name}'")
    text = given[0]
    found = _NUMBER.match(text)
    if found is None:
        raise InvalidArgumentError(f"Unable to parse '{name}', got: {text}")
    low, high = _RANGES[name]
    # Longer texts than this are out of range anyway, and Python refuses to read very long ones.
    number = int(found[1][:20])
    if name == "trace_count" and -(2**31) <= number < low:
        raise InvalidArgumentError(f"Unable to parse '{name}'. Expecting value >= {low}, got: {text}")
    if not low <= number <= MAX_INT32:  # Triton reads an int32 and names the range of what it is put into
        raise InvalidArgumentError(
            f"Unable to parse '{name}', value is out of range [ {low}, {high} ], got: {text}"
        )
    return number
