"""What is logged and how, as the server was told and as callers may change it while it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from naiad.core.errors import InvalidArgumentError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LogValue = bool | int | str

FORMATS = ("text", "json", "default", "ISO8601")
"""Ours, and Triton's names for its two ways to write the time."""

_FLAGS = ("log_info", "log_warning", "log_error")
_NAMES = ("log_file", *_FLAGS, "log_verbose_level", "log_format")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LogChoice:
    """Which events are logged and in which format; `verbose` above 0 adds debug events."""

    log_format: str = "text"
    verbose: int = 0
    info: bool = True
    warning: bool = True
    error: bool = True

    def shows(self, level: str) -> bool:
        """Whether events of structlog's level are logged."""
        if level == "debug":
            return self.verbose > 0
        return {"info": self.info, "warning": self.warning}.get(level, self.error)


class LogSettings:
    """The log's settings under the protocol's names.

    Changes are told to `on_change`, which `configure_logging` connects to the log itself. `log_file` is shown
    and cannot be changed.
    """

    def __init__(
        self,
        choice: LogChoice | None = None,
        *,
        log_file: str = "",
        on_change: Callable[[LogChoice], None] | None = None,
    ) -> None:
        """Take the settings of the command line.

        Raises:
            InvalidArgumentError: the format is none of `FORMATS`.
        """
        self.choice = choice or LogChoice()
        if self.choice.log_format not in FORMATS:
            raise InvalidArgumentError(
                f"--log-format={self.choice.log_format}: the formats are {', '.join(FORMATS)}"
            )
        self._log_file = log_file
        self._on_change = on_change

    def get(self) -> dict[str, LogValue]:
        """All six settings; our text format is what clients of Triton know as "default"."""
        choice = self.choice
        return {
            "log_file": self._log_file,
            "log_info": choice.info,
            "log_warning": choice.warning,
            "log_error": choice.error,
            "log_verbose_level": choice.verbose,
            "log_format": "default" if choice.log_format == "text" else choice.log_format,
        }

    def update(self, changes: Mapping[str, LogValue | None]) -> None:
        """Change settings; all of them or, with an error, none. What is logged next follows them.

        Args:
            changes: new values by setting. Names that are no settings are overlooked, with a warning, as
                Triton does.

        Raises:
            UnsupportedError: the log file was to be changed.
            InvalidArgumentError: a value has the wrong type, or names no format.
        """
        if "log_file" in changes:
            raise UnsupportedError("log file location can not be updated through network protocol")
        flags = {**self.get(), **_flags(changes)}
        choice = replace(
            self.choice,
            info=bool(flags["log_info"]),
            warning=bool(flags["log_warning"]),
            error=bool(flags["log_error"]),
        )
        if "log_verbose_level" in changes:
            level = changes["log_verbose_level"]
            if isinstance(level, bool) or not isinstance(level, int):
                raise InvalidArgumentError("expect int32 for 'log_verbose_level'")
            choice = replace(choice, verbose=level)
        if "log_format" in changes:
            choice = replace(choice, log_format=_format(changes["log_format"], choice.log_format))
        ignored = sorted(changes.keys() - set(_NAMES))
        if ignored:
            log.warning("log settings that do not exist", ignored=ignored, who="caller")
        if choice != self.choice:
            self.choice = choice
            if self._on_change is not None:
                self._on_change(choice)


def _flags(changes: Mapping[str, LogValue | None]) -> dict[str, bool]:
    flags = {}
    for name in _FLAGS:
        if name in changes:
            value = changes[name]
            if not isinstance(value, bool):
                raise InvalidArgumentError(f"expect boolean for '{name}'")
            flags[name] = value
    return flags


def _format(value: LogValue | None, current: str) -> str:
    if not isinstance(value, str):
        raise InvalidArgumentError("expect string for 'log_format'")
    if value not in FORMATS:
        raise InvalidArgumentError(f"invalid argument for log_format, got: {value}")
    # A client that sends back what it read has not asked for another format.
    return current if (value, current) == ("default", "text") else value
