"""The Makefile and the hooks around it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

TARGETS = {"install", "demo", "test", "lint", "protos", "bench", "clean", "docs", "help"}


@pytest.fixture
def make(root: Path) -> list[str]:
    """The start of a make command in the root; skips the test where there is no make."""
    program = shutil.which("make")
    if program is None:
        pytest.skip("make is not installed")
    return [program, "--no-print-directory", "-C", str(root)]


def output(command: list[str]) -> str:
    """What the command prints."""
    # Under `make test` the flags and arguments of the outer make would reach this one.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "ARGS"}
    }
    result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30, env=environment)
    return result.stdout


def test_make_alone_lists_every_target(make: list[str]) -> None:
    """Somebody who knows nothing types `make` and reads what there is."""
    listed = dict(re.findall(r"^  ([a-z-]+) +(\S.*)$", output(make), re.MULTILINE))
    assert set(listed) >= TARGETS


@pytest.mark.parametrize("target", ["demo", "test", "lint", "protos", "bench"])
def test_target_sets_up_its_own_environment(make: list[str], target: str) -> None:
    """In a tree without an environment each target first makes one and installs into it, pinned."""
    planned = output([*make, "--dry-run", "VENV=.no-such-folder", target])
    assert planned.index("-m venv") < planned.index(
        "pip install --quiet -c constraints.txt --no-build-isolation"
    )


def test_files_with_slow_tests_start_first(make: list[str], request: pytest.FixtureRequest) -> None:
    """Sorted by how many tests they have, files of few long ones would come last, and one process do nothing."""
    assert "--no-loadscope-reorder" in output([*make, "--dry-run", "test"])
    items = request.session.items
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    is_slow = [item.path in slow for item in items]
    assert is_slow == sorted(is_slow, reverse=True)


def test_python_keeps_its_bytecode(make: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says: else every server that a test starts compiles all of Naiad again."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    seen = output([*make, "--eval", 'probe: ; @echo "[$$PYTHONDONTWRITEBYTECODE]"', "probe"])
    assert seen.strip() == "[]"


def test_hooks_run_what_make_runs(root: Path) -> None:
    """pre-commit fetches nothing and has no second list of checks."""
    text = (root / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"repo: (\S+)", text) == ["local"]
    assert all(entry.startswith("make ") for entry in re.findall(r"entry: (.+)", text))
