"""Logs: one line an event, JSON where asked for, and never a reason to stop serving."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import pytest
import structlog

from naiad.telemetry.logging import configure_logging

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave structlog as it was."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def test_json_lines_hold_the_event_its_fields_and_who_must_act(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json")
    structlog.get_logger("x").warning("model refused", model="m", who="model owner")
    structlog.get_logger("x").debug("not shown")
    [line] = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert (event["event"], event["model"], event["who"], event["level"]) == (
        "model refused",
        "m",
        "model owner",
        "warning",
    )


def test_verbose_shows_debug_events_and_text_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("text", verbose=1)
    structlog.get_logger("x").debug("looked", model="m")
    [line] = capsys.readouterr().err.splitlines()
    assert "looked" in line
    assert "model=m" in line


def test_a_reader_that_has_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        configure_logging("json")
        structlog.get_logger("x").info("nobody hears this")
        # What the stream still buffers fails again when it closes; that is this test's own.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, writing)
        os.close(null)
