"""`--trace-config`: its entries to trace settings. Pure."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError
from naiad.telemetry.tracing.settings import MAX_INT32, MAX_UINT32, TraceLevel, TraceMode, TraceSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_FORM = "--trace-config option format is '<trace mode>,<setting>=<value>'. Got {}"
_LEVELS = {
    **dict.fromkeys(("off", "false"), TraceLevel.OFF),
    **dict.fromkeys(("timestamps", "true", "on", "min", "max"), TraceLevel.TIMESTAMPS),
    "tensors": TraceLevel.TENSORS,
}
_GLOBAL = ("level", "rate", "count", "mode")
_KNOWN = {
    TraceMode.TRITON: ("file", "log-frequency"),
    TraceMode.OPENTELEMETRY: (
        "url",
        "resource",
        "bsp_max_queue_size",
        "bsp_schedule_delay",
        "bsp_max_export_batch_size",
    ),
}
_BATCH_PROCESSOR = {
    "bsp_max_queue_size": "2048",
    "bsp_schedule_delay": "5000",
    "bsp_max_export_batch_size": "512",
}


@dataclass(slots=True)
class _Entries:
    """The entries read so far: global settings, levels, and each mode's own."""

    settings: dict[str, str] = field(default_factory=dict)
    levels: list[TraceLevel] = field(default_factory=list)
    modes: dict[TraceMode, list[tuple[str, str]]] = field(
        default_factory=lambda: {mode: [] for mode in TraceMode}
    )


def parse_trace_config(entries: Iterable[str], environment: Mapping[str, str] | None = None) -> TraceSettings:
    """The settings that `--trace-config` entries ask for.

    Args:
        entries: `SETTING=VALUE` (level, rate, count, mode) or `MODE,SETTING=VALUE`; a setting given twice has
            its last value, levels add up, `resource` may come several times.
        environment: where `OTEL_BSP_…` defaults are read from; the process's own unless given.

    Raises:
        InvalidArgumentError: an entry has no such form, setting or value.
    """
    read = _Entries()
    for entry in entries:
        _read(entry, read)
    mode = _mode(read.settings.get("mode", TraceMode.TRITON.value))
    triton = dict(read.modes[TraceMode.TRITON])
    level = TraceLevel.OFF
    for one in read.levels:
        level |= one
    environment = os.environ if environment is None else environment
    return TraceSettings(
        level=TraceLevel.OFF if TraceLevel.OFF in read.levels else level,
        rate=_number("rate", read.settings.get("rate", "1000"), 0, MAX_INT32),
        count=_number("count", read.settings.get("count", "-1"), -1, MAX_INT32),
        log_frequency=_number("triton,log-frequency", triton.get("log-frequency", "0"), 0, MAX_INT32),
        file=triton.get("file", ""),
        mode=mode,
        options=_options(read, environment) if mode is TraceMode.OPENTELEMETRY else (),
        unused=tuple(
            f"{other.value},{name}={value}"
            for other, given in read.modes.items()
            if other is not mode
            for name, value in given
        ),
    )


def _read(entry: str, read: _Entries) -> None:
    prefix, comma, rest = entry.partition(",")
    if comma and not prefix:
        raise InvalidArgumentError(
            "No trace mode specified. --trace-config option format is <trace mode>,<setting>=<value> or "
            f"<setting>=<value>. Got {entry}"
        )
    mode = _mode(prefix) if comma else None
    name, _, value = (rest if comma else entry).partition("=")
    if not name or not value:
        raise InvalidArgumentError(_FORM.format(entry))
    known = _GLOBAL if mode is None else _KNOWN[mode]
    if name not in known:
        where = f"{mode.value}," if mode else ""
        raise InvalidArgumentError(
            f'Bad option: "--trace-config {where}{name}". The settings are {", ".join(known)}'
        )
    if mode is not None:
        read.modes[mode].append((name, value))
    elif name == "level":
        read.levels.append(_level(value))
    else:
        read.settings[name] = value


def _mode(text: str) -> TraceMode:
    try:
        return TraceMode(text.lower())
    except ValueError:
        raise InvalidArgumentError(
            f'invalid value for trace mode option: {text}. Available options are "triton" and "opentelemetry"'
        ) from None


def _level(text: str) -> TraceLevel:
    try:
        return _LEVELS[text.lower()]
    except KeyError:
        raise InvalidArgumentError(
            f'Bad option: "--trace-config level". invalid value for trace level option: {text}'
        ) from None


def _number(name: str, text: str, low: int, high: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise InvalidArgumentError(
            f'Bad option: "--trace-config {name}". Expected a whole number from {low} to {high}, got {text}'
        )
    return number


def _options(read: _Entries, environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """OpenTelemetry's options as given; the batch processor's also from the environment, or the defaults."""
    given = read.modes[TraceMode.OPENTELEMETRY]
    single = {name: value for name, value in given if name != "resource"}
    for name, default in _BATCH_PROCESSOR.items():
        single.setdefault(name, environment.get(f"OTEL_{name.upper()}") or default)
    sizes = {name: _number(f"opentelemetry,{name}", single[name], 1, MAX_UINT32) for name in _BATCH_PROCESSOR}
    if sizes["bsp_max_export_batch_size"] > sizes["bsp_max_queue_size"]:
        raise InvalidArgumentError(
            f"--trace-config opentelemetry,bsp_max_export_batch_size={sizes['bsp_max_export_batch_size']} is "
            f"more than bsp_max_queue_size={sizes['bsp_max_queue_size']}: spans would be lost"
        )
    resources = [(name, value) for name, value in given if name == "resource"]
    for _, resource in resources:
        key, equals, _ = resource.partition("=")
        if not key or not equals:
            raise InvalidArgumentError(_FORM.format(f"opentelemetry,resource={resource}, not KEY=VALUE"))
    return (*single.items(), *resources)
