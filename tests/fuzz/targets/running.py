"""Runs the coverage-guided targets, each in a process of its own."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

TARGETS = ("config_parser", "tensor_decoder", "http_body")
_DONE = re.compile(r"Done (\d+) (?:runs )?in (\d+) second")
_COVERAGE = re.compile(r"cov: (\d+)")


class TargetResult(NamedTuple):
    """How a target ended, in one line."""

    is_well: bool
    summary: str


def run_target(name: str, seconds: int, seed: int, output: Path) -> TargetResult:
    """Fuzz one parser; its log and what breaks it are kept in `output`."""
    if importlib.util.find_spec("atheris") is None:
        return TargetResult(is_well=True, summary="left out: atheris is not installed for this Python")
    corpus = output / f"corpus-{name}"
    corpus.mkdir(exist_ok=True)
    command = [sys.executable, "-m", f"fuzz.targets.{name}", f"-max_total_time={seconds}", f"-seed={seed}"]
    command += ["-max_len=4096", "-timeout=10", "-rss_limit_mb=4096", "-print_final_stats=1"]
    command += [f"-artifact_prefix={output / name}-", str(corpus)]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, errors="replace", check=False
    )
    (output / f"{name}.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    runs = _DONE.search(done.stderr)
    coverage = _COVERAGE.findall(done.stderr)
    if done.returncode or not runs:
        return TargetResult(
            is_well=False, summary=f"ended with code {done.returncode}, see {output / name}.log"
        )
    return TargetResult(
        is_well=True,
        summary=f"{int(runs[1]):,} runs in {runs[2]} s, coverage {coverage[-1] if coverage else '?'}",
    )
