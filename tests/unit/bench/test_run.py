"""The benchmark command from end to end, short."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from bench.cli import app
from typer.testing import CliRunner

from naiad.core.errors import InvalidArgumentError

ROOT = Path(__file__).resolve().parents[3]


def bench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bench" / "run.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_a_short_run_leaves_tables_figures_and_picture(tmp_path: Path) -> None:
    """From another folder than the repository's: server and workers must be found all the same."""
    options = ("--only=add_sub", "--rounds=1", "--seconds=0.2", "--in-flight=1,4")
    done = bench(*options, "--client=asyncio", "--no-peers", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 in flight" in done.stdout
    assert "1 client: p50, absolute" in done.stdout
    output = tmp_path / "bench-output"
    content = json.loads((output / "results.json").read_text())
    served = [row for row in content["rows"] if row["target"] == "Naiad"]
    assert [row["level"] for row in served] == [1, 4, 8, 0.8]
    assert all(row["requests_per_s"] > 0 and row["failure"] == "" for row in content["rows"])
    assert max(row["ratio"] for row in content["rows"] if row["kind"] == "bare") == 1.0
    assert all(row["batch"] >= 1 and row["memory_mib"] > 10 for row in served)
    assert any(each["passed"] is not None for each in content["criteria"])
    assert cv2.imread(str(output / "results.png")) is not None
    assert '"ready"' in (output / "server.log").read_text()


def test_a_wrong_option_is_one_sentence(tmp_path: Path) -> None:
    done = bench("--in-flight=1,x", cwd=tmp_path)
    assert done.returncode == 1
    assert "expected positive numbers" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--only=nothing", "no case has that in its name"),
        ("--client=curl", "expected one of auto, perf_analyzer, asyncio"),
        ("--assets=/no/such", "lacks 'models/"),
    ],
)
def test_what_cannot_be_measured_is_said_before_a_server_starts(
    argument: str, words: str, tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, [f"--output={tmp_path}", argument])
    assert isinstance(result.exception, InvalidArgumentError)
    assert words in result.exception.message
    assert list(tmp_path.iterdir()) == []
