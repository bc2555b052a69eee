"""What a run leaves behind: a table on the terminal, the figures as JSON, and what machine it was."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from naiad.runtime.threads import read_cpu_budget

if TYPE_CHECKING:
    from bench.results import Row

_PACKAGES = ("naiad", "onnxruntime", "grpcio", "tritonclient", "numpy", "opencv-python-headless")


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
    drawn = Table(title="Closed loop, client and server on the same CPUs", title_justify="left")
    drawn.add_column("case")
    drawn.add_column("caller")
    for name in (
        "requests/s",
        "spread",
        "p50 ms",
        "p99 ms",
        "batch",
        "server CPU us",
        "caller CPU us",
        "CPU ratio",
        "ratio",
    ):
        drawn.add_column(name, justify="right")
    previous = ""
    for row in rows:
        if row.case != previous and previous:
            drawn.add_section()
        drawn.add_row("" if row.case == previous else row.case, *cells(row))
        previous = row.case
    return drawn


def cells(row: Row) -> list[str]:
    """The table's cells from the second column on."""
    return [
        row.caller,
        f"{row.requests_per_s:,.{_decimals(row.requests_per_s)}f}",
        f"{row.spread:.0%}",
        _shown_ms(row.p50_ms),
        _shown_ms(row.p99_ms),
        "" if row.average_batch is None else f"{row.average_batch:.2f}",
        "" if row.server_cpu_us is None else f"{row.server_cpu_us:,.0f}",
        f"{row.caller_cpu_us:,.0f}",
        "" if row.cpu_ratio is None else f"{row.cpu_ratio:.3f}",
        f"{row.ratio:.3f}",
    ]


def _decimals(value: float) -> int:
    return 1 if value < 1_000 else 0


def _shown_ms(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.1f}"


def write_json(path: Path, about: dict[str, Any], settings: dict[str, Any], rows: list[Row]) -> None:
    """Everything that the table is made of."""
    content = {"machine": about, "settings": settings, "rows": [asdict(row) for row in rows]}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
