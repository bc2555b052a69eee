"""`naiad serve`'s arguments, read as tritonserver reads them: settings by field, and nothing swallowed."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from naiad.config.refused_flags import OTHER_FLAGS_BY_NAME, FlagState, OtherFlag
from naiad.config.server_config import ServerConfig, flag_name, is_boolean, is_list
from naiad.core.errors import InvalidArgumentError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FIELDS_BY_FLAG = {flag_name(name): name for name in ServerConfig.model_fields}
_BARE = "true"
_EXCLUDE_OLD = {"--trace-config", "--cache-config"}
"""Flags that may not stand beside those of old for the same."""


@dataclass(slots=True)
class CommandLine:
    """What the arguments say: values as text by field, and sentences for the operator."""

    flags: dict[str, str | list[str]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def parse_command_line(arguments: Sequence[str]) -> CommandLine:
    """Read `--flag value`, `--flag=value` and, of booleans, `--flag`.

    Of a flag that is given twice the last value counts, but a list takes each.

    Raises:
        InvalidArgumentError: an unknown flag (with its near matches), a stray argument, a value that is
            missing, or flags that exclude each other.
        UnsupportedError: a flag of tritonserver that is not served; why, and what to do instead.
    """
    line = CommandLine()
    renamed: list[str] = []
    for name, value in _pairs(arguments):
        other = OTHER_FLAGS_BY_NAME.get(name)
        if other is None:
            _set(line, name, value)
        elif other.state is FlagState.RENAMED and not other.is_default(value):
            renamed.append(name)
            _set(line, other.renamed, other.entry.format(value))
            line.warnings.append(f"{name} is deprecated: {other.note}")
        elif not other.is_default(value):
            _refuse_or_warn(line, other, value)
    _check_old_and_new(renamed, arguments)
    return line


def near_flags(name: str) -> list[str]:
    """The flag that is nearest to a name that is none; two if they are equally near, none if none is near."""
    meant = "--" + name.strip("-").replace("_", "-").lower()
    near = difflib.get_close_matches(meant, [*FIELDS_BY_FLAG, *OTHER_FLAGS_BY_NAME], n=2)
    return [flag for flag in near if _likeness(meant, flag) == _likeness(meant, near[0])]


def _likeness(one: str, other: str) -> float:
    # In this order, as get_close_matches compares them: the ratio depends on it.
    return difflib.SequenceMatcher(None, other, one).ratio()


def did_you_mean(names: Iterable[str]) -> str:
    """`; did you mean A or B?`, or nothing where there is nothing near."""
    words = " or ".join(names)
    return f"; did you mean {words}?" if words else ""


def _pairs(arguments: Sequence[str]) -> Iterable[tuple[str, str]]:
    """Each flag with its value."""
    position = 0
    while position < len(arguments):
        name, equals, value = arguments[position].partition("=")
        position += 1
        _check_known(name)
        if not equals:
            stands_next = position < len(arguments) and not arguments[position].startswith("--")
            if stands_next:
                value = arguments[position]
                position += 1
            elif _may_stand_alone(name):
                value = _BARE
            else:
                raise InvalidArgumentError(f"{name} needs a value: {name}=VALUE")
        yield name, value


def _check_known(name: str) -> None:
    if name in FIELDS_BY_FLAG or name in OTHER_FLAGS_BY_NAME:
        return
    if not name.startswith("-"):
        raise InvalidArgumentError(f"unexpected argument '{name}': each argument is a --flag or its value")
    raise InvalidArgumentError(f"unknown flag {name}{did_you_mean(near_flags(name))}")


def _may_stand_alone(name: str) -> bool:
    return is_boolean(FIELDS_BY_FLAG[name]) if name in FIELDS_BY_FLAG else OTHER_FLAGS_BY_NAME[name].boolean


def _set(line: CommandLine, name: str, value: str) -> None:
    setting = FIELDS_BY_FLAG[name]
    if not is_list(setting):
        line.flags[setting] = value
        return
    if not value:  # an unset shell variable would silently mean the current folder, say
        raise InvalidArgumentError(f"{name} needs a value, and it is empty")
    items = line.flags.setdefault(setting, [])
    assert isinstance(items, list)
    items.append(value)


def _refuse_or_warn(line: CommandLine, other: OtherFlag, value: str) -> None:
    if other.state is FlagState.REFUSED:
        raise UnsupportedError(f"{other.name}={value} is not supported: {other.note}")
    line.warnings.append(f"{other.name}={value} has no effect: {other.note}")


def _check_old_and_new(renamed: Sequence[str], arguments: Sequence[str]) -> None:
    """Old and new flags together are an error in tritonserver too: it is not clear which should win."""
    given = {argument.partition("=")[0] for argument in arguments}
    for name in renamed:
        other = OTHER_FLAGS_BY_NAME[name]
        if other.renamed in _EXCLUDE_OLD & given:
            raise InvalidArgumentError(f"{name} and {other.renamed} exclude each other: {other.note}")
