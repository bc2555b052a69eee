"""The benchmark of the schedulers: its verdicts, its report, and its measurements on a server in this process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import pytest
import tritonclient.grpc.aio as triton
from bench.overload import QUEUE_SIZE, Caller, Check, build_models, measure_leavers
from bench.scheduling_cli import report
from support.servers import address, metrics_address, server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
async def caller(tmp_path: Path) -> AsyncIterator[Caller]:
    build_models(tmp_path)
    async with (
        server(tmp_path) as running,
        triton.InferenceServerClient(address(running)) as client,
    ):
        yield Caller(client, metrics_address(running))


@pytest.mark.parametrize(
    ("value", "at_least", "at_most", "passed"),
    [
        (10, 10, 15, True),
        (9.9, 10, 15, False),
        (15.1, 10, 15, False),
        (7, None, None, True),
        (3, None, 2, False),
    ],
)
def test_a_figure_passes_between_its_bounds(
    value: float, at_least: float | None, at_most: float | None, passed: bool
) -> None:
    assert Check("part", "name", value, "ms", at_least, at_most).passed is passed


async def test_a_run_takes_as_long_as_asked_and_tells_how_it_ended(caller: Caller) -> None:
    await caller.calibrate()
    long, short = await caller.call("plain", 200), await caller.call("plain", 1)
    assert long.error == short.error == ""
    assert long.ms > 4 * short.ms
    run = await caller.occupy("timeout", 300)
    told = await caller.call("timeout", 0)
    assert "Request timeout expired" in told.error
    assert told.ms >= 10
    assert (await run).error == ""


async def test_callers_that_leave_are_measured(caller: Caller) -> None:
    """What leaves the queue is not run, and a run is ended: counts, which no busy machine changes."""
    await caller.calibrate()
    emptied, runs, wasted, freed = await measure_leavers(caller, 1)
    assert emptied.value > 0
    assert (runs.value, wasted.value) == (0, 0)
    assert freed.note == "1 of 1 runs ended before their time"


def test_the_report_is_a_table_figures_and_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checks = [
        Check("late", "told, p50", 12.3, "ms", 10, 15, "9 calls"),
        Check("late", "told, p99", 40, "ms", 10, 15),
        Check("full", "answered", QUEUE_SIZE, "calls"),
    ]
    about = {"cpu": "a CPU", "cpus": 2, "load_average_before": 0.5}
    report(tmp_path, about, {"rounds": 1}, checks)
    printed = capsys.readouterr().out
    assert "10 to 15" in printed
    assert "FAIL" in printed
    rows = json.loads((tmp_path / "scheduling.json").read_text())["checks"]
    assert [row["passed"] for row in rows] == [True, False, True]
    assert cv2.imread(str(tmp_path / "scheduling.png")) is not None


def test_the_command_is_found_from_another_folder(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "bench" / "scheduling.py"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "--rounds" in done.stdout
