"""The commands gathered: which of them are there, and what a server's start does not load."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from naiad.cli.main import app

COMMANDS = ("serve", "check", "explain", "tensorrt", "detect", "embed", "video", "health", "version", "demo")


def test_a_server_s_start_does_not_load_what_other_commands_need() -> None:
    code = "import sys, naiad.cli.main; print(*(name for name in sys.modules if name.startswith('naiad.')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = loaded.stdout.split()
    assert "naiad.cli.serve" in names
    assert [name for name in names if name.startswith(("naiad.lifecycle", "naiad.demo"))] == []
    assert [name for name in names if name in {"naiad.cli.check", "naiad.cli.explain"}] == []


def test_the_help_says_what_each_command_does() -> None:
    listed = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120"}).stdout
    assert [name for name in COMMANDS if f" {name} " not in listed] == []


@pytest.mark.parametrize(("typed", "meant"), [("chek", "check"), ("sreve", "serve"), ("tensort", "tensorrt")])
def test_a_misspelt_command_is_told_the_near_one(typed: str, meant: str) -> None:
    result = CliRunner().invoke(app, [typed])
    assert result.exit_code == 2
    assert f"Did you mean '{meant}'?" in result.output
