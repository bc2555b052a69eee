"""`naiad serve`'s help and refusals as their reader meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import structlog
from support.processes import naiad_environment
from typer.testing import CliRunner

from naiad.cli.main import app
from naiad.cli.serve import read_settings
from naiad.config.server_config import GROUPS, ServerConfig, environment_name, flag_name
from naiad.core.errors import NaiadError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def page() -> str:
    """The help as a terminal of 80 columns shows it."""
    result = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "80", "TERM": "dumb"})
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("field", ServerConfig.model_fields)
def test_the_help_shows_each_flag_and_variable_whole(page: str, field: str) -> None:
    words = page.replace("[", " ").replace("]", " ").split()
    assert flag_name(field) in words
    assert environment_name(field) in words


def test_the_help_groups_the_settings_and_fits_80_columns(page: str) -> None:
    for group in GROUPS:
        assert f" {group.TITLE} " in page
    assert max(map(len, page.splitlines())) <= 80
    assert "none|poll|explicit" in page


def test_every_setting_is_in_one_group() -> None:
    grouped = [field for group in GROUPS for field in group.model_fields]
    assert sorted(grouped) == sorted(ServerConfig.model_fields)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--grpc-prot=1"], "error: unknown flag --grpc-prot; did you mean --grpc-port"),
        (["--model-namespacing", "true"], "error: --model-namespacing=true is not supported"),
        (["--http-port=8001"], "at the same address and port"),
        ([], "error: --model-repository is required"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_1(flags: list[str], words: str) -> None:
    """As tritonserver exits; click's own code would be 2."""
    repository = ["--model-repository=."] if flags else []
    result = subprocess.run(
        [sys.executable, "-m", "naiad", "serve", *repository, *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=naiad_environment(),
    )
    assert result.returncode == 1
    assert words in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "variable", "is_json"),
    [
        (["--no-such-flag", "--log-format=json"], "", True),
        (["--grpc-port=x", "--log-format", "json"], "", True),
        (["--log-format=json", "--log-file=/no/such/folder/log"], "", True),
        (["--no-such-flag"], "json", True),
        (["--no-such-flag", "--log-format=text"], "json", False),
        (["--no-such-flag", "--log-format"], "", False),
        ([], "", False),
    ],
)
def test_a_refusal_before_the_log_starts_is_a_line_of_the_log_that_was_asked_for(
    arguments: list[str], variable: str, is_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader of JSON lines must not meet a bare sentence, however wrong the rest is."""
    monkeypatch.setenv("NAIAD_MODEL_REPOSITORY", "." if arguments else "")
    monkeypatch.setenv("NAIAD_LOG_FORMAT", variable)
    configured = structlog.get_config()
    try:
        result = CliRunner().invoke(app, ["serve", *arguments])
    finally:
        structlog.configure(**configured)
    if not is_json:
        assert isinstance(result.exception, NaiadError)  # a sentence, by the one who ends the process
        return
    (line,) = result.stderr.splitlines()
    assert result.exit_code == 1
    content = json.loads(line)
    assert content.keys() == {"event", "level", "timestamp", "reason", "who"}
    assert (content["event"], content["level"], content["who"]) == ("cannot serve", "error", "operator")
    assert any(argument.partition("=")[0] in content["reason"] for argument in arguments)


def test_what_changes_nothing_is_gathered_from_flags_settings_and_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NAIAD_GRPC_PROT", "1")
    config, warnings = read_settings(
        ["--model-store", str(tmp_path), "--http-thread-count=3", "--strict-model-config"]
    )
    assert config.disable_auto_complete_config is True
    assert config.model_repository == (tmp_path,)
    starts = ["--model-store", "--http-thread-count", "--strict-model-config", "NAIAD_GRPC_PROT"]
    found = [warning for warning in warnings if not warning.startswith("NAIAD_ASSETS")]
    assert [warning.startswith(start) for warning, start in zip(found, starts, strict=True)] == [True] * 4
