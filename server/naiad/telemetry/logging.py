"""Structured logs: one line an event, and on every warning or error who must act (`who`)."""

from __future__ import annotations

import logging
import sys
from enum import Enum
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from structlog.typing import Processor


class LogFormat(Enum):
    """How a line is written."""

    TEXT = "text"
    JSON = "json"


def configure_logging(log_format: LogFormat, *, verbose: int = 0) -> None:
    """Send structlog's events to standard error; called once, by the command that owns the process.

    `verbose` above 0 adds debug events.
    """
    level = logging.DEBUG if verbose > 0 else logging.INFO
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *_renderers(log_format),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _renderers(log_format: LogFormat) -> list[Processor]:
    if log_format is LogFormat.JSON:
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
