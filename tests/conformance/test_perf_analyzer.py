"""Triton's C++ load generator runs to its end against this server, over every wire that it knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.onnx_models import add_sub
from support.perf_analyzer import NotThereError, PerfAnalyzer, perf_analyzer
from support.processes import ServerProcess
from support.repositories import add_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUICK = ("--measurement-mode", "time_windows", "--measurement-interval", "300", "-s", "999", "-r", "3")
"""Enough to go through every step of a run; its figures are not the point.

Windows of 300 ms hold more than 50 requests at the slowest rate asked for here; those that count requests last a
second however few they are to hold.
"""


@pytest.fixture(scope="module")
def program() -> PerfAnalyzer:
    try:
        return perf_analyzer()
    except NotThereError as error:
        pytest.skip(f"perf_analyzer cannot be had: {error}")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The addresses of a server with `simple`, by protocol."""
    repository = tmp_path_factory.mktemp("repository")
    add_model(repository, "simple", add_sub(), config="max_batch_size: 8 dynamic_batching { }")
    with ServerProcess(repository, "--allow-client-shm=true") as server:
        ready = server.wait_for("ready")
        yield {"grpc": ready["grpc"], "http": ready["http"]}


@pytest.mark.parametrize("protocol", ["grpc", "http"])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), id="unary"),
        pytest.param(("-b", "4", "--concurrency-range", "1:3:2"), id="batches and callers"),
        pytest.param(("--shared-memory", "system"), id="system shared memory"),
        pytest.param(("--async", "--request-rate-range", "200"), id="asynchronous at a rate"),
    ],
)
def test_it_runs_to_the_end(
    program: PerfAnalyzer,
    running: dict[str, str],
    tmp_path: Path,
    protocol: str,
    options: tuple[str, ...],
) -> None:
    report = program.run(
        "-m",
        "simple",
        "-i",
        protocol,
        "-u",
        running[protocol],
        *QUICK,
        *options,
        results=tmp_path / "rows.csv",
    )
    assert report.inferences_per_second > 0
    assert "Failed" not in report.output


def test_it_streams(program: PerfAnalyzer, running: dict[str, str], tmp_path: Path) -> None:
    report = program.run(
        "-m",
        "simple",
        "-i",
        "grpc",
        "-u",
        running["grpc"],
        "--streaming",
        "--async",
        *QUICK,
        results=tmp_path / "rows.csv",
    )
    assert report.inferences_per_second > 0
