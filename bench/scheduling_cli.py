"""The command of `scheduling.py`: starts a server, measures what its callers see, reports."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import tritonclient.grpc.aio as triton
import typer
from bench.overload import (
    Caller,
    Check,
    build_models,
    measure_leavers,
    measure_refusals,
    measure_timeouts,
)
from bench.plot import write_text
from bench.processes import Server
from bench.report import machine
from rich.console import Console
from rich.table import Table

from naiad.core.errors import NaiadError

_ROW, _LEFT, _LIMIT = 30, 560, 320
_GOOD, _BAD, _INK = (110, 160, 60), (60, 60, 200), (40, 40, 40)  # BGR


def main() -> None:
    """Run the command; a fault that is no bug is one sentence and exit code 1."""
    try:
        typer.run(run)
    except NaiadError as error:
        print(f"error: {error.message}", file=sys.stderr)
        raise SystemExit(1) from None


def run(
    *,
    output: Annotated[
        Path, typer.Option(help="Folder for scheduling.json, scheduling.png and scheduling.log.")
    ] = Path("bench-output"),
    rounds: Annotated[int, typer.Option(min=1, help="How often a long run is waited for.")] = 10,
) -> None:
    """Measure deadlines, refusals and callers that leave."""
    about = machine()
    output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        repository = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="naiad-bench-")))
        build_models(repository)
        ports = ["--http-port=0", "--metrics-port=0", "--metrics-address=127.0.0.1"]
        server = stack.enter_context(Server(repository, output / "scheduling.log", *ports))
        checks = asyncio.run(_measure(server, rounds))
    report(output, about, {"rounds": rounds}, checks)


async def _measure(server: Server, rounds: int) -> list[Check]:
    async with triton.InferenceServerClient(server.address) as client:
        caller = Caller(client, server.metrics)
        await caller.calibrate()
        return [
            *await measure_timeouts(caller, rounds),
            *await measure_refusals(caller),
            *await measure_leavers(caller, rounds),
        ]


def report(output: Path, about: dict[str, Any], settings: dict[str, Any], checks: list[Check]) -> None:
    """Write the figures and the picture, print the table."""
    rows = [asdict(check) | {"passed": check.passed} for check in checks]
    content = {"machine": about, "settings": settings, "checks": rows}
    (output / "scheduling.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    caption = f"{about['cpu']}, {about['cpus']} CPUs shared by client and server"
    _write_plot(output / "scheduling.png", checks, caption)
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(_table(checks))
    console.print(f"{caption}; load average before the run {about['load_average_before']:.2f}")
    console.print(f"{output / 'scheduling.json'}, {output / 'scheduling.png'}", soft_wrap=True)


def _table(checks: list[Check]) -> Table:
    table = Table(title="What callers of a busy server see", title_justify="left")
    for name in ("what happens", "figure"):
        table.add_column(name)
    for name in ("measured", "wanted"):
        table.add_column(name, justify="right")
    for name in ("verdict", "of"):
        table.add_column(name)
    previous = ""
    for check in checks:
        if previous not in ("", check.part):
            table.add_section()
        part = "" if check.part == previous else check.part
        verdict = "" if _wanted(check) == "" else "pass" if check.passed else "FAIL"
        measured = f"{_shown(check.value)} {check.unit}"
        table.add_row(part, check.name, measured, _wanted(check), verdict, check.note)
        previous = check.part
    return table


def _wanted(check: Check) -> str:
    low, high = check.at_least, check.at_most
    if high is None:
        return "" if low is None else f">= {_shown(low)}"
    if low is None:
        return f"<= {_shown(high)}"
    return _shown(low) if low == high else f"{_shown(low)} to {_shown(high)}"


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def _write_plot(path: Path, checks: list[Check], caption: str) -> None:
    """A bar a figure as a share of what is wanted at most: green left of the line, red beyond."""
    drawn = [check for check in checks if check.at_most]
    canvas = np.full((_ROW * (len(drawn) + 3), _LEFT + 2 * _LIMIT + 180, 3), 255, np.uint8)
    write_text(canvas, caption, 20, _ROW, 0.5)
    bottom = _ROW * (len(drawn) + 2)
    for index, check in enumerate(drawn, start=2):
        y = _ROW * index + 10
        right = _LEFT + round(_LIMIT * min(2.0, check.value / (check.at_most or 1.0)))
        write_text(canvas, f"{check.part}: {check.name}", 20, y, 0.4)
        cv2.rectangle(
            canvas,
            (_LEFT, y - 14),
            (max(right, _LEFT + 2), y + 3),
            _GOOD if check.passed else _BAD,
            cv2.FILLED,
        )
        figures = f"{_shown(check.value)} {check.unit} ({_wanted(check)})"
        write_text(canvas, figures, max(right, _LEFT + _LIMIT) + 8, y, 0.4)
    cv2.line(canvas, (_LEFT + _LIMIT, 2 * _ROW - 10), (_LEFT + _LIMIT, bottom), _INK, 1)
    cv2.imwrite(str(path), canvas)
