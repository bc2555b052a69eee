"""Triton's own load generator, perf_analyzer, as a client of the benchmark: a C++ program that costs little.

`support.perf_analyzer` fetches the program. One run is one load on one server: three windows, merged.
"""

from __future__ import annotations

import csv
import re
import resource
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from support.perf_analyzer import NotThereError, PerfAnalyzer, perf_analyzer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.cases import Case
    from bench.loads import Load

_WINDOWS = 3  # it refuses to report on fewer
_SHORTEST_WINDOW_MS = 100
_LONGER = 4.0
_TOO_SHORT = "larger time window"
_ANY_SPREAD = "100000"  # percent: windows that differ are for the spread between rounds to tell
_SPARE_S = 60.0
_PARTS = {
    "Client Send": "client_send_us",
    "Network+Server Send/Recv": "network_us",
    "Server Queue": "queue_us",
    "Server Compute Input": "compute_input_us",
    "Server Compute Infer": "compute_infer_us",
    "Server Compute Output": "compute_output_us",
    "Client Recv": "client_receive_us",
}
_DELAYED = re.compile(r"([\d.]+)% of the requests were delayed")


class PerfError(Exception):
    """A run ended without figures; the text says why in one line."""


class TooShortError(PerfError):
    """A window was too short for a single answer."""


@dataclass(frozen=True, slots=True)
class PerfFigures:
    """What one run reports. `parts_us` is where a request's time went on average, the server's parts by it.

    `client_cpu_us` is of the whole program, its start included. `delayed` is the share of an open loop's
    requests that it did not send in time.
    """

    requests_per_s: float
    p50_us: float
    p90_us: float
    p95_us: float
    p99_us: float
    parts_us: Mapping[str, float]
    client_cpu_us: float
    delayed: float


class PerfClient:
    """Runs perf_analyzer on servers, one after the other."""

    def __init__(self, program: PerfAnalyzer) -> None:
        self._program = program

    def run(self, case: Case, load: Load, address: str, window_s: float, output_bytes: int) -> PerfFigures:
        """Put `load` on a server for about `window_s` seconds.

        Args:
            case: what is sent.
            load: how much of it.
            address: host:port of gRPC.
            window_s: time that counts, in all.
            output_bytes: of the largest output: that much shared memory is made.

        Raises:
            PerfError: a request failed, or nothing was answered in a window.
        """
        try:
            return self._run(case, load, address, window_s, output_bytes)
        except TooShortError:
            return self._run(case, load, address, window_s * _LONGER, output_bytes)

    def _run(self, case: Case, load: Load, address: str, window_s: float, output_bytes: int) -> PerfFigures:
        options = arguments(case, load, address, window_s, output_bytes)
        before = _children_cpu_us()
        with tempfile.TemporaryDirectory(prefix="naiad-bench-") as folder:
            results = Path(folder) / "rows.csv"
            output = self._finished([*options, "-f", str(results)], window_s)
            text = results.read_text(encoding="utf-8") if results.exists() else ""
        return parse(text, output, _children_cpu_us() - before)

    def _finished(self, options: list[str], window_s: float) -> str:
        try:
            done = subprocess.run(
                self._program.command(*options),
                env=self._program.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=window_s + _SPARE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PerfError(f"perf_analyzer did not end in {window_s + _SPARE_S:.0f} s") from None
        if done.returncode:
            raise failure(done.stdout)
        return done.stdout


def perf_client() -> PerfClient:
    """The client, its program fetched if it is not there yet.

    Raises:
        NotThereError: this machine cannot fetch or run it.
    """
    return PerfClient(perf_analyzer())


def arguments(case: Case, load: Load, address: str, window_s: float, output_bytes: int) -> list[str]:
    """The command line for one load."""
    window_ms = max(_SHORTEST_WINDOW_MS, round(window_s * 1000 / _WINDOWS))
    options = ["-m", case.model, "-i", "grpc", "-u", address, "--input-data", case.data]
    options += ["-p", str(window_ms), "-r", str(_WINDOWS), "-s", _ANY_SPREAD]
    for name, (_, shape) in case.row_shapes.items():
        options += ["--shape", f"{name}:{','.join(map(str, shape or (1,)))}"]
    if load.rate:
        options += [f"--request-rate-range={load.rate:.1f}", "--request-distribution=poisson", "--async"]
    else:
        options += [f"--concurrency-range={load.in_flight}"]
    if case.wire == "stream":
        options += ["--streaming", *(() if load.rate else ("--async",))]
    if case.wire == "shared memory":
        options += ["--shared-memory=system", f"--output-shared-memory-size={output_bytes}"]
    return options


def parse(table: str, output: str, client_cpu_us: float = 0.0) -> PerfFigures:
    """The figures of a run from its CSV and what it printed.

    Raises:
        PerfError: the CSV has no row.
    """
    row = next(csv.DictReader(table.splitlines()), None)
    if row is None:
        raise failure(output)
    delayed = _DELAYED.search(output)
    return PerfFigures(
        requests_per_s=float(row["Inferences/Second"]),
        p50_us=float(row["p50 latency"]),
        p90_us=float(row["p90 latency"]),
        p95_us=float(row["p95 latency"]),
        p99_us=float(row["p99 latency"]),
        parts_us={name: float(row[column]) for column, name in _PARTS.items() if row.get(column)},
        client_cpu_us=client_cpu_us,
        delayed=float(delayed[1]) / 100 if delayed else 0.0,
    )


def failure(output: str) -> PerfError:
    """Why it failed: the line of what it printed that says so, or its last one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"error|fail|unable|please", line, re.IGNORECASE)]
    text = ("perf_analyzer: " + (telling or lines or ["no output"])[-1])[:200]
    return TooShortError(text) if _TOO_SHORT in output else PerfError(text)


def _children_cpu_us() -> float:
    """CPU time of all children that have ended and were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (used.ru_utime + used.ru_stime) * 1e6


__all__ = ["NotThereError", "PerfClient", "PerfError", "PerfFigures", "arguments", "parse", "perf_client"]
