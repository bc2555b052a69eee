"""Logs: one line an event, JSON where asked for, and never a reason to stop serving."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING

import pytest
import structlog

from naiad.core.errors import InvalidArgumentError
from naiad.telemetry.logging import configure_logging

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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


def levels_shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Log one event a level; the levels that came out."""
    log = structlog.get_logger("x")
    log.debug("a debug event")
    log.info("a info event")
    log.warning("a warning event")
    log.error("a error event")
    log.critical("a critical event")
    return re.findall(r"a (\w+) event", capsys.readouterr().err)


def test_each_level_is_switched_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """No threshold: warnings may be shown without errors."""
    configure_logging(info=False, error=False)
    assert levels_shown(capsys) == ["warning"]


def test_an_update_takes_effect_on_the_next_event(capsys: pytest.CaptureFixture[str]) -> None:
    settings = configure_logging()
    assert levels_shown(capsys) == ["info", "warning", "error", "critical"]
    settings.update({"log_verbose_level": 1, "log_warning": False})
    assert levels_shown(capsys) == ["debug", "info", "error", "critical"]


@pytest.mark.parametrize(
    ("log_format", "time"),
    [
        ("text", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z \["),
        ("default", r"\d{4} \d\d:\d\d:\d\d\.\d{6} \["),
        ("ISO8601", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \["),
    ],
)
def test_formats_differ_in_how_the_time_is_written(
    capsys: pytest.CaptureFixture[str], log_format: str, time: str
) -> None:
    configure_logging("json").update({"log_format": log_format})
    structlog.get_logger("x").info("looked", model="m")
    [line] = capsys.readouterr().err.splitlines()
    assert re.match(time, line)
    assert line.endswith("looked                         model=m")


def test_a_log_file_is_appended_to_line_by_line_and_follows_rotation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "naiad.log"
    path.write_text("before\n")
    settings = configure_logging("json", log_file=path)
    assert settings.get()["log_file"] == str(path)
    log = structlog.get_logger("x")
    log.info("first")
    assert '"first"' in path.read_text(), "nothing is held back"
    path.rename(tmp_path / "naiad.log.1")
    log.info("second")
    structlog.get_config()["logger_factory"]._file._stream._handler.close()  # which the process's exit does
    old, new = (tmp_path / "naiad.log.1").read_text().splitlines(), path.read_text().splitlines()
    assert [old[0], json.loads(old[1])["event"]] == ["before", "first"]
    assert [json.loads(line)["event"] for line in new] == ["second"]
    assert capsys.readouterr().err == ""


def test_a_log_file_that_cannot_be_opened_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"--log-file=.*/no/x\.log cannot be opened: No such file"):
        configure_logging(log_file=tmp_path / "no" / "x.log")


@pytest.mark.parametrize(
    "value", ["a\x1b[31mb", "a\x1b[31m b", "a\nb", "\x9b31m", "\u202eb", "\udc80", "x\x07"]
)
def test_what_a_caller_names_cannot_steer_a_terminal_or_begin_a_line(
    capsys: pytest.CaptureFixture[str], value: str
) -> None:
    configure_logging("text")
    structlog.get_logger("x").warning("refused", model=value, others=[value], plain="größe=1 ✓")
    [line] = capsys.readouterr().err.splitlines()
    assert line.isprintable()
    assert "größe=1 ✓" in line
