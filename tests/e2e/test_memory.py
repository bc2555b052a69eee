"""Memory stays flat while models are reloaded under load: a short soak, its bound far below what a leak adds."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 24
LIMIT_MIB = 8
"""In 10 reloads. A reload that kept its weights (4 MiB) would add 40, its file's bytes as much again."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what is freed is given back on glibc only")
def test_reloads_under_load_keep_nothing(tmp_path: Path) -> None:
    """Reloads of one model of every kind (again, with a file of the request's, a new version, a broken one)."""
    command = [sys.executable, str(ROOT / "bench" / "soak.py"), f"--output={tmp_path}"]
    command += [f"--minutes={SECONDS / 60}", "--reloads=60", "--only=dense", "--only=versions"]
    command += ["--rest-ms=200", f"--limit-mib={LIMIT_MIB}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((tmp_path / "soak.json").read_text(encoding="utf-8"))
    assert all(each["passed"] is not False for each in written["verdicts"]), written["verdicts"]
    # What makes the verdict worth something: enough was reloaded, and every kind of caller was at work.
    assert written["samples"][-1]["reloads"] >= 20
    assert set(written["machine"]["reloads"]) == {
        "again dense",
        "again versions",
        "broken dense",
        "override dense",
        "version versions",
    }
    calls = written["machine"]["calls"]
    refused = {"wrong", "oversized", "cancelled"}
    assert {kind for kind, ended in calls.items() if "answered" in ended} >= set(calls) - refused
    assert refused <= set(calls)
