"""The benchmark command from end to end, short."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

ROOT = Path(__file__).resolve().parents[3]


def bench(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bench" / "run.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_a_short_run_leaves_table_figures_and_picture(tmp_path: Path) -> None:
    """From another folder than the repository's: server and workers must be found all the same."""
    done = bench("--only=add_sub", "--rounds=1", "--seconds=0.2", "--in-flight=1,4", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "server, 4 in flight" in done.stdout
    output = tmp_path / "bench-output"
    rows = json.loads((output / "results.json").read_text())["rows"]
    assert [row["in_flight"] for row in rows] == [1, rows[1]["in_flight"], rows[1]["in_flight"], 1, 4]
    assert all(row["requests_per_s"] > 0 and row["requests"] > 0 for row in rows)
    assert max(row["ratio"] for row in rows[:2]) == 1.0
    assert all(0 < row["cpu_ratio"] < 1 for row in rows if not row["bare"])
    assert all(row["average_batch"] >= 1 for row in rows if not row["bare"])
    assert cv2.imread(str(output / "results.png")) is not None
    assert '"ready"' in (output / "server.log").read_text()


@pytest.mark.parametrize(
    ("argument", "words"), [("--in-flight=1,x", "expected positive numbers"), ("--only=nothing", "no case")]
)
def test_a_wrong_option_is_one_sentence(argument: str, words: str, tmp_path: Path) -> None:
    done = bench(argument, cwd=tmp_path)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
