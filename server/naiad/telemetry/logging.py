"""Structured logs: one line an event, and on every warning or error who must act (`who`)."""

from __future__ import annotations

import contextlib
import logging
import sys
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

import structlog

from naiad.core.errors import InvalidArgumentError
from naiad.telemetry.log_settings import LogChoice, LogSettings

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

_TIMES = {
    "default": "%m%d %H:%M:%S.%f",  # as Triton's default format writes the time
    "ISO8601": "%Y-%m-%dT%H:%M:%SZ",
}
"""How times are written by format; the others have ISO 8601 with microseconds. Always UTC."""


_QUOTED = frozenset(" \t=\r\n\"'")
"""What makes structlog's console renderer quote a string."""


def configure_logging(
    log_format: str = "text",
    *,
    verbose: int = 0,
    info: bool = True,
    warning: bool = True,
    error: bool = True,
    log_file: str | Path = "",
) -> LogSettings:
    """Send structlog's events to standard error or a file; called once, by the command that owns the process.

    Args:
        log_format: "text" or "json"; "default" or "ISO8601" are text with the time as Triton writes it.
        verbose: above 0 adds debug events.
        info: whether informational events are logged.
        warning: whether warnings are.
        error: whether errors are.
        log_file: appended to, line by line, and opened anew when it was moved away; "" is standard error.

    Returns:
        The settings, whose updates take effect at once.

    Raises:
        InvalidArgumentError: there is no such format, or the file cannot be opened.
    """
    choice = LogChoice(log_format, verbose, info, warning, error)
    stream: TextIO = cast("TextIO", _LogFile(Path(log_file))) if log_file else sys.stderr
    colors = not log_file and sys.stderr.isatty()

    def apply(changed: LogChoice) -> None:
        _configure(changed, stream, colors=colors)

    settings = LogSettings(choice, log_file=str(log_file), on_change=apply)
    apply(choice)
    return settings


def _configure(choice: LogChoice, stream: TextIO, *, colors: bool) -> None:
    # The logger's class lets debug events go before any work is done on them.
    level = logging.DEBUG if choice.shows("debug") else logging.INFO
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _only_shown(choice),
            structlog.processors.TimeStamper(fmt=_TIMES.get(choice.log_format, "iso"), utc=True),
            *_renderers(choice.log_format, colors=colors),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Unfailing(stream))),
        cache_logger_on_first_use=False,
    )


def _only_shown(choice: LogChoice) -> Processor:
    """Drops the events of levels that are switched off, each by itself."""

    def processor(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        if not choice.shows(event["level"]):
            raise structlog.DropEvent
        return event

    return processor


class _LogFile:
    """A log file that is opened anew when somebody has moved it away, as log rotation does."""

    def __init__(self, path: Path) -> None:
        try:
            self._handler = WatchedFileHandler(path, encoding="utf-8")
        except OSError as error:
            raise InvalidArgumentError(f"--log-file={path} cannot be opened: {error.strerror}") from None

    def write(self, text: str) -> None:
        self._handler.reopenIfNeeded()
        if (stream := self._handler.stream) is not None:
            stream.write(text)

    def flush(self) -> None:
        self._handler.flush()


class _Unfailing:
    """A stream whose reader may be gone: what cannot be written is dropped, because serving matters more."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def _renderers(log_format: str, *, colors: bool) -> list[Processor]:
    if log_format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [
        _escape_controls,
        structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback),
    ]


def _escape_controls(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Write out what would steer a terminal that shows the log: callers choose names.

    structlog does so in the strings that it quotes, and leaves the others as they are.
    """
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable() and _QUOTED.isdisjoint(value):
            event[key] = "".join(map(_escaped, value))
    return event


def _escaped(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
