"""What a run leaves behind: tables on the terminal, the figures as JSON, and what machine it was."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.figures import COLUMNS, VERDICT_COLUMNS, cells, remark, verdict_cells
from rich.table import Table

from naiad.runtime.threads import read_cpu_budget

if TYPE_CHECKING:
    from bench.criteria import Verdict
    from bench.results import Row

_PACKAGES = ("naiad", "onnxruntime", "grpcio", "tritonclient", "numpy", "opencv-python-headless")
_STYLES = {"pass": "green", "miss": "red", "not measured": "yellow"}


def machine() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    budget = read_cpu_budget()
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": _cpu_model(),
        "cpus": budget.threads,
        "load_average_before": os.getloadavg()[0],
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next(
        (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine()
    )


def table(rows: list[Row]) -> Table:
    """The figures for reading; docs/benchmarks.md says what each column means."""
    drawn = Table(title="Clients and servers on the same CPUs", title_justify="left")
    for name in ("case", "server", "load"):
        drawn.add_column(name)
    for name in COLUMNS:
        drawn.add_column(name, justify="right")
    previous = ""
    for row in rows:
        if previous not in {"", row.title}:
            drawn.add_section()
        drawn.add_row("" if row.title == previous else row.title, row.target, row.load, *cells(row))
        told = remark(row)
        if told:
            drawn.add_row("", "", f"[red]{told.replace('[', '(').replace(']', ')')}[/red]")
        previous = row.title
    return drawn


def criteria_table(verdicts: list[Verdict]) -> Table:
    """The criteria for reading."""
    drawn = Table(title="Criteria", title_justify="left")
    for name in VERDICT_COLUMNS:
        drawn.add_column(name, justify="right" if name in {"measured", "wanted"} else "left")
    for verdict in verdicts:
        name, measured, wanted, word, note = verdict_cells(verdict)
        drawn.add_row(name, measured, wanted, f"[{_STYLES[word]}]{word}[/]", note)
    return drawn


def write_json(
    path: Path, about: dict[str, Any], notes: list[str], rows: list[Row], verdicts: list[Verdict]
) -> None:
    """Everything that the tables are made of."""
    criteria = [asdict(verdict) | {"passed": verdict.passed} for verdict in verdicts]
    content = {"machine": about, "notes": notes, "rows": [asdict(row) for row in rows], "criteria": criteria}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
