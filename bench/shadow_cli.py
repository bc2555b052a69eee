"""The command of `shadow.py`: latencies of a version that serves, with and without a shadow beside it."""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from bench.arrivals import percentiles
from bench.docs import write_docs
from bench.loads import Load
from bench.meter import tree, tree_cpu_ns
from bench.perf_client import NotThereError, perf_client
from bench.processes import ROOT
from bench.report import machine
from bench.rounds import Clients
from bench.shadow_models import ALONE, ROUTED, SHADOWED, SLOWER, write_case, write_repository
from bench.targets import NaiadTarget
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from naiad.core.errors import NaiadError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.cases import Case
    from bench.perf_client import PerfClient

SERVERS = (ALONE, ROUTED, SHADOWED)
LOADS = {"moderate": 1, "saturating": 8}
"""Requests in flight."""

BEGIN = "<!-- shadow: begin (bench/shadow.py --write-docs) -->"
END = "<!-- shadow: end -->"
QUIET_CPUS = 0.1
"""Rounds count in which other processes took no more."""
_LEAST_ROUNDS = 3
_RAMP_S = 0.5
_OUTPUT_BYTES = 1024
_WARM_UP_S = 1.0
_START_LIMIT_S = 120.0
_LOOK_S = 0.1
_EVENTS = {ALONE: (), ROUTED: ("open aside",), SHADOWED: ("open aside",)}
"""What a server's log says once its process aside has all that it needs."""
_WORKER = b"experiments.aside.worker"


@dataclass(frozen=True, slots=True)
class Sample:
    """One window: milliseconds, requests a second, and the CPUs that the process aside took.

    `other_cpus` are those that were busy with what is no part of the run.
    """

    p50_ms: float
    p99_ms: float
    rate: float
    aside_cpus: float
    other_cpus: float


@dataclass(slots=True)
class Series:
    """The windows of one server under one load, a sample a round."""

    server: str
    load: str
    samples: list[Sample] = field(default_factory=list)

    def median(self, figure: str) -> float:
        """Of a figure over the rounds."""
        return float(statistics.median(getattr(sample, figure) for sample in self.samples))

    def ratio(self, other: Series, figure: str) -> float:
        """The median of the ratios to another server's sample of the same round: machines drift."""
        pairs = zip(self.samples, other.samples, strict=True)
        ratios = [getattr(mine, figure) / getattr(theirs, figure) for mine, theirs in pairs]
        return float(statistics.median(ratios))


class Parts(NamedTuple):
    """Who takes part in a run."""

    case: Case
    targets: dict[str, NaiadTarget]
    logs: dict[str, Path]
    clients: Clients


def main() -> None:
    """Run the command; a fault that is no bug is one sentence and exit code 1."""
    try:
        typer.run(run)
    except NaiadError as error:
        print(f"error: {error.message}", file=sys.stderr)
        raise SystemExit(1) from None


def run(
    *,
    output: Annotated[Path, typer.Option(help="Folder for shadow.json and the servers' logs.")] = Path(
        "bench-output"
    ),
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is measured.")] = 7,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each window.")] = 4.0,
    budget: Annotated[float, typer.Option(min=0.01, help="CPUs that the process aside may take.")] = 0.5,
    client: Annotated[
        str, typer.Option(help="Who sends: perf_analyzer, asyncio, or auto for what is there.")
    ] = "auto",
    write_docs_: Annotated[
        bool, typer.Option("--write-docs", help="Write the table into docs/ as well.")
    ] = False,
) -> None:
    """Measure what callers of a version notice when a slower one is shadowed beside it."""
    about = machine()
    output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="naiad-shadow-")))
        clients = stack.enter_context(Clients(_perf(client)))
        parts = Parts(*_started(stack, folder, output, budget), clients)
        measured = list(_measure(parts, rounds, seconds))
    settings = {"rounds": rounds, "seconds": seconds, "budget": budget, "slower": SLOWER}
    report(output, about, settings, measured)
    if write_docs_:
        write_docs(ROOT / "docs" / "benchmarks.md", markdown(about, settings, measured), BEGIN, END)


def _perf(asked: str) -> PerfClient | None:
    """Triton's client, which takes less of the CPUs, where it is wanted and can be had."""
    if asked == "asyncio":
        return None
    try:
        return perf_client()
    except NotThereError as error:
        if asked == "perf_analyzer":
            raise UnavailableError(f"--client=perf_analyzer: {error}") from None
        return None


def _started(
    stack: ExitStack, folder: Path, output: Path, budget: float
) -> tuple[Case, dict[str, NaiadTarget], dict[str, Path]]:
    """The servers beside each other, and their logs. Layouts are the rule's: measured ones could differ."""
    targets, logs = {}, {}
    for index, name in enumerate(SERVERS):
        repository = write_repository(folder / str(index), name, budget)
        logs[name] = output / f"shadow-{index}.log"
        targets[name] = stack.enter_context(
            NaiadTarget(repository, logs[name], "--measure-layout=false", name=name)
        )
    return write_case(folder / "requests", folder / "0"), targets, logs


def _measure(parts: Parts, rounds: int, seconds: float) -> Iterator[Series]:
    found = {(load, name): Series(name, load) for load in LOADS for name in SERVERS}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=rounds * len(found))
        for name, target in parts.targets.items():
            target.pause()
            progress.update(task, description=f"warming up {name}")
            _warm_up(parts, name)
        for number in range(rounds):
            for load, in_flight in LOADS.items():
                # Another one goes first in each round: who follows whom is no one's advantage.
                for index in range(len(SERVERS)):
                    name = SERVERS[(index + number) % len(SERVERS)]
                    progress.update(task, description=f"{load}: {name}")
                    found[load, name].samples.append(_sample(parts, name, in_flight, seconds))
                    progress.advance(task)
    yield from found.values()


def _warm_up(parts: Parts, name: str) -> None:
    """Put a load on a server until all that it has is there: what runs last starts late on a busy machine."""
    target = parts.targets[name]
    target.resume()
    try:
        deadline = time.monotonic() + _START_LIMIT_S
        _window(parts, target, 1, _WARM_UP_S)
        while (missing := _missing(parts.logs[name], name)) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        _window(parts, target, 1, _WARM_UP_S)
    finally:
        target.pause()
    if missing:
        raise UnavailableError(f"the server with {name} has not logged '{missing}' in {_START_LIMIT_S:.0f} s")


def _missing(log_file: Path, name: str) -> str:
    """The event of a server's start aside that its log has not yet; nothing once all are there."""
    text = log_file.read_text(encoding="utf-8")
    return next((event for event in _EVENTS[name] if f'"event": "{event}"' not in text), "")


def _sample(parts: Parts, name: str, in_flight: int, seconds: float) -> Sample:
    target = parts.targets[name]
    target.resume()
    try:
        if target.ended():
            raise UnavailableError(f"the server with {name} {target.ended()}")
        before, started_s = _aside_cpu_ns(target.pid), time.perf_counter()
        others_ns = _others_cpu_ns()
        figures = _window(parts, target, in_flight, seconds)
        aside_ns, others_ns = _aside_cpu_ns(target.pid) - before, _others_cpu_ns() - others_ns
        took_ns = (time.perf_counter() - started_s) * 1e9
        return Sample(**figures, aside_cpus=aside_ns / took_ns, other_cpus=max(0.0, others_ns / took_ns))
    finally:
        target.pause()


def _window(parts: Parts, target: NaiadTarget, in_flight: int, seconds: float) -> dict[str, float]:
    """The figures of one window."""
    if parts.clients.perf is not None:
        load = Load("perf_analyzer", in_flight=in_flight)
        seen = parts.clients.perf.run(parts.case, load, target.address, seconds, _OUTPUT_BYTES)
        return {"p50_ms": seen.p50_us / 1e3, "p99_ms": seen.p99_us / 1e3, "rate": seen.requests_per_s}
    times = {"ramp_s": _RAMP_S, "window_s": seconds, "pid": target.pid}
    asked = {"case": asdict(parts.case), "address": target.address, "in_flight": in_flight, **times}
    window = parts.clients.ask("bench.load", **asked)
    if "failure" in window:
        raise UnavailableError(f"the server with {target.name}: {window['failure']}")
    latencies = percentiles(window["latencies_us"])
    rate = window["count"] / window["seconds"]
    return {"p50_ms": latencies.p50 / 1e3, "p99_ms": latencies.p99 / 1e3, "rate": rate}


def _aside_cpu_ns(pid: int) -> int:
    """CPU time of the process aside of a server; 0 while it has none."""
    return sum(tree_cpu_ns(each) for each in tree(pid) if each != pid and _WORKER in _command(each))


def _others_cpu_ns() -> int:
    """CPU time that this machine has spent on other processes than those of this run."""
    ticks = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    busy = sum(map(int, ticks[1:9])) - int(ticks[4]) - int(ticks[5])
    return busy * 10**9 // os.sysconf("SC_CLK_TCK") - tree_cpu_ns(os.getpid())


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def quiet_rounds(measured: Sequence[Series]) -> list[Series]:
    """The rounds of each load in which no server's window was disturbed; all where these are too few."""
    kept = []
    for load in LOADS:
        series = [each for each in measured if each.load == load]
        rounds = list(zip(*(each.samples for each in series), strict=True))
        quiet = [each for each in rounds if all(one.other_cpus <= QUIET_CPUS for one in each)]
        chosen = quiet if len(quiet) >= _LEAST_ROUNDS else rounds
        for index, each in enumerate(series):
            kept.append(Series(each.server, load, [samples[index] for samples in chosen]))
    return kept


def report(output: Path, about: dict[str, Any], settings: dict[str, Any], measured: Sequence[Series]) -> None:
    """Write the figures, print the table."""
    content = {"machine": about, "settings": settings, "series": [asdict(each) for each in measured]}
    (output / "shadow.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    console = Console(width=None if sys.stdout.isatty() else 150)
    table = Table(title="What a shadow costs the version that serves", title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in COLUMNS[:2] else "right")
    for row in rows(quiet_rounds(measured)):
        table.add_row(*row)
    console.print(table)
    console.print(
        f"{about['cpu']}, {about['cpus']} CPUs shared by client and server; {_disturbance(measured)}"
    )
    console.print(str(output / "shadow.json"), soft_wrap=True)


def _disturbance(measured: Sequence[Series]) -> str:
    """How many rounds count, and how busy others were in them."""
    kept = quiet_rounds(measured)
    counts = {each.load: len(each.samples) for each in kept}
    others = max(sample.other_cpus for each in kept for sample in each.samples)
    said = " and ".join(f"{count} ({load})" for load, count in counts.items())
    return f"medians of {said} rounds, in which others kept at most {others:.2f} CPUs busy"


COLUMNS = ("load", "server", "requests/s", "p50 ms", "p99 ms", "p50 to alone", "p99 to alone", "CPUs aside")


def rows(measured: Sequence[Series]) -> list[list[str]]:
    """The table's cells."""
    alone = {each.load: each for each in measured if each.server == ALONE}
    return [
        [
            each.load,
            each.server,
            f"{each.median('rate'):.1f}",
            f"{each.median('p50_ms'):.2f}",
            f"{each.median('p99_ms'):.2f}",
            f"{each.ratio(alone[each.load], 'p50_ms'):.3f}",
            f"{each.ratio(alone[each.load], 'p99_ms'):.3f}",
            f"{each.median('aside_cpus'):.2f}",
        ]
        for each in measured
    ]


def markdown(about: dict[str, Any], settings: dict[str, Any], measured: Sequence[Series]) -> str:
    """The table for the docs."""
    run_text = (
        f"{settings['rounds']} rounds of windows of {settings['seconds']:g} s, client and server together on "
        f"{about['cpus']} CPUs ({about['cpu']}); {_disturbance(measured)}."
    )
    lines = [
        run_text,
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{'---|' * 2}{'--:|' * (len(COLUMNS) - 2)}",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows(quiet_rounds(measured)))])
