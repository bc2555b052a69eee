"""The command: builds the models, starts the servers, measures in rounds, judges and reports."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from bench import report
from bench.cases import CaseFolder
from bench.criteria import DISTURBED, judge
from bench.docs import measured, write_docs
from bench.loads import planned_loads
from bench.peers import MLSERVER, PLOTS, TRITON, NotThereError
from bench.perf_client import NotThereError as PerfNotThereError
from bench.perf_client import perf_client
from bench.plan import plan_cases
from bench.plot import write_plot
from bench.processes import ROOT
from bench.published import assets_folder
from bench.results import summarise
from bench.rounds import Bench, Clients, check_answers
from bench.targets import EMPTY_CASES, OVER_GRPCIO, NaiadTarget, empty_peer, mlserver_peer, triton_peer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from naiad.core.errors import InvalidArgumentError, NaiadError, UnavailableError
from naiad.runtime.threads import read_cpu_budget

if TYPE_CHECKING:
    from bench.cases import Case
    from bench.loads import Client
    from bench.peers import Environment
    from bench.perf_client import PerfClient
    from bench.results import Row
    from bench.targets import Outputs, Peer, Target

_SHORT, _FULL = (3, 0.7), (5, 2.5)
"""Rounds and seconds of a measurement."""
_WIDTH = 220
_CLIENTS = ("auto", "perf_analyzer", "asyncio")

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run was asked for."""

    rounds: int
    seconds: float
    in_flight: list[int]
    only: str
    full: bool
    client: str
    peers: bool


def main() -> None:
    """Run the command; a fault that is no bug is one sentence and exit code 1."""
    # As an exception, so that every process of the run is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        app()
    except NaiadError as error:
        print(f"error: {error.message}", file=sys.stderr)
        raise SystemExit(1) from None


@app.command()
def run(
    *,
    output: Annotated[
        Path, typer.Option(help="Folder for results.json, pictures and the servers' logs.")
    ] = Path("bench-output"),
    assets: Annotated[
        Path | None,
        typer.Option(help="A folder of published face models; else NAIAD_ASSETS, ../shared/assets, or none."),
    ] = None,
    models: Annotated[
        Path | None, typer.Option(help="A folder of your own *.onnx files to measure too.")
    ] = None,
    only: Annotated[
        str, typer.Option(help="Measure the cases whose name contains one of these, by commas.")
    ] = "",
    full: Annotated[bool, typer.Option("--full", help="Everything: peers, every load, longer.")] = False,
    rounds: Annotated[int | None, typer.Option(min=1, help="How often everything is measured.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Length of one measurement.")] = None,
    in_flight: Annotated[str, typer.Option(help="Requests in flight, several with commas.")] = "1,8,32",
    client: Annotated[
        str, typer.Option(help="Who sends: perf_analyzer, asyncio, or auto for what is there.")
    ] = "auto",
    peers: Annotated[
        bool, typer.Option(help="Measure other servers too: those that are installed; all with --full.")
    ] = True,
    write_docs_: Annotated[
        bool, typer.Option("--write-docs", help="Write tables and pictures into docs/ as well.")
    ] = False,
) -> None:
    """Measure Naiad beside bare ONNX Runtime, and beside other servers, on this machine."""
    if client not in _CLIENTS:
        raise InvalidArgumentError(f"--client={client}: expected one of {', '.join(_CLIENTS)}")
    default_rounds, default_seconds = _FULL if full else _SHORT
    settings = Settings(
        rounds=rounds or default_rounds,
        seconds=seconds or default_seconds,
        in_flight=_levels(in_flight),
        only=only,
        full=full,
        client=client,
        peers=peers,
    )
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    about = report.machine() | {"settings": asdict(settings)}
    output.mkdir(parents=True, exist_ok=True)
    notes: list[str] = []
    rows = _measure(settings, output, assets_folder(assets), models, notes)
    notes += _disturbances(rows)
    _report(console, output, about, notes, rows, docs=write_docs_)


def _measure(
    settings: Settings, output: Path, assets: Path | None, models: Path | None, notes: list[str]
) -> list[Row]:
    """Everything between the start of the first process and the end of the last."""
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="naiad-bench-")))
        folder = CaseFolder(work)
        cases = _chosen(folder.build(models, assets), settings.only)
        folder.keep(cases)
        if assets is None:
            notes.append("There is no folder of published models (--assets): the demo's models alone.")
        perf = _perf_client(settings.client, notes)
        clients = stack.enter_context(Clients(perf))
        outputs, expected = _bare_outputs(clients, cases, work)
        targets: list[Target] = [stack.enter_context(NaiadTarget(folder.repository, output / "server.log"))]
        if settings.peers:
            targets += _empty(stack, cases, targets[0], work=work, output=output)
            targets.append(stack.enter_context(_over_grpcio(folder.repository, output)))
            targets += _peers(stack, settings, cases, outputs, work=work, output=output, notes=notes)
        senders: list[Client] = ["perf_analyzer", "asyncio"] if perf else ["asyncio"]
        loads = planned_loads(settings.in_flight, senders, full=settings.full)
        cpus = read_cpu_budget().threads
        bench = Bench(
            plan_cases(cases, targets, loads, cpus=cpus, full=settings.full),
            clients,
            seconds=settings.seconds,
        )
        bench.output_bytes = {
            model: max(each["bytes"] for each in described) for model, described in outputs.items()
        }
        check_answers(bench, cases, targets, expected)
        _run_rounds(bench, settings.rounds)
    return summarise(bench.series)


def _run_rounds(bench: Bench, rounds: int) -> None:
    columns = (
        TextColumn("{task.description:60.60}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=rounds * len(bench.series))
        for number in range(rounds):
            for step in bench.round(number):
                progress.update(task, advance=1, description=step)


def _chosen(cases: list[Case], only: str) -> list[Case]:
    parts = [part.strip() for part in only.split(",")]
    chosen = [case for case in cases if any(part in case.name or part == case.key for part in parts)]
    if not chosen:
        names = ", ".join(case.name for case in cases)
        raise InvalidArgumentError(f"--only={only}: no case has that in its name: {names}")
    return chosen


def _levels(text: str) -> list[int]:
    try:
        levels = [int(part) for part in text.split(",")]
    except ValueError:
        levels = []
    if not levels or min(levels) < 1:
        raise InvalidArgumentError(
            f"--in-flight={text}: expected positive numbers with commas, such as 1,8,32"
        )
    return levels


def _perf_client(asked: str, notes: list[str]) -> PerfClient | None:
    """Triton's client where it is wanted and can be had."""
    if asked == "asyncio":
        return None
    try:
        return perf_client()
    except PerfNotThereError as error:
        if asked == "perf_analyzer":
            raise UnavailableError(f"--client=perf_analyzer: {error}") from None
        notes.append(
            f"perf_analyzer is not there ({error}): our own client sends, which takes more of the CPUs."
        )
        return None


def _bare_outputs(clients: Clients, cases: list[Case], work: Path) -> tuple[Outputs, dict[str, Path]]:
    """What bare ONNX Runtime answers, by model: the outputs described, and the file with their values."""
    outputs: Outputs = {}
    expected: dict[str, Path] = {}
    for case in cases:
        if case.model not in outputs:
            expected[case.model] = work / f"{case.model}.npz"
            question = {"case": asdict(case), "threads": 1, "outputs": str(expected[case.model])}
            outputs[case.model] = clients.ask("bench.bare", **question)["outputs"]
    return outputs, expected


def _peers(
    stack: ExitStack,
    settings: Settings,
    cases: list[Case],
    outputs: Outputs,
    *,
    work: Path,
    output: Path,
    notes: list[str],
) -> list[Peer]:
    """Those that are there, started; with --full the others are installed first."""
    started = []
    instances = max(2, read_cpu_budget().threads)
    for environment, make in ((TRITON, triton_peer), (MLSERVER, mlserver_peer)):
        try:
            _installed(environment, make=settings.full)
            log_file = output / f"{environment.name}.log"
            peer = make(work / environment.name, log_file, cases, outputs, instances)
            started.append(stack.enter_context(peer))
        except (NotThereError, UnavailableError) as error:
            notes.append(f"Without {environment.name}: {error}")
    return started


def _empty(stack: ExitStack, cases: list[Case], naiad: Target, *, work: Path, output: Path) -> list[Target]:
    """The server that does nothing, if it has a case."""
    if not any(case.key in EMPTY_CASES for case in cases):
        return []
    return [stack.enter_context(empty_peer(work / "empty", output / "empty.log", cases, naiad))]


def _over_grpcio(repository: Path, output: Path) -> NaiadTarget:
    return NaiadTarget(repository, output / "server-grpcio.log", "--grpc-transport=grpcio", name=OVER_GRPCIO)


def _installed(environment: Environment, *, make: bool) -> None:
    if make:
        environment.make(Console(stderr=True))
    elif not environment.made:
        raise NotThereError("it is not installed (`--full` or `python -m bench.peers` does that)")


def _disturbances(rows: list[Row]) -> list[str]:
    """Cases whose limit moved so much between the rounds that the figures say little."""
    moved = [row.title for row in rows if row.is_limit and (row.spread or 0.0) > DISTURBED]
    if not moved:
        return []
    told = f"bare runs differed by more than {DISTURBED:.0%} between rounds ({', '.join(moved)})"
    return [f"The machine was not quiet: {told}."]


def _report(
    console: Console, output: Path, about: dict[str, Any], notes: list[str], rows: list[Row], *, docs: bool
) -> None:
    verdicts = judge(rows)
    results = output / "results.json"
    report.write_json(results, about, notes, rows, verdicts)
    caption = f"{about['cpu']}, {about['cpus']} CPUs shared by clients and servers"
    write_plot(output / "results.png", rows, caption)
    drawn = _draw(results, output, "svg,png", make=docs)
    if docs:
        pictures = drawn and _draw(results, ROOT / "docs" / "images", "svg", make=False)
        parts = measured(about, notes, rows, verdicts, pictures=pictures)
        write_docs(ROOT / "docs" / "benchmarks.md", parts)
    console.print(report.table(rows))
    console.print(report.criteria_table(verdicts))
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)
    console.print(f"{caption}; load average before the run {about['load_average_before']:.2f}")
    console.print(f"{results}, {output / 'results.png'}", soft_wrap=True)


def _draw(results: Path, folder: Path, formats: str, *, make: bool) -> bool:
    """Draw the pictures with matplotlib, where its environment is there or may be made."""
    try:
        _installed(PLOTS, make=make)
    except NotThereError:
        return False
    command = [str(PLOTS.python), str(ROOT / "bench" / "charts.py"), str(results), str(folder), formats]
    return subprocess.run(command, check=False).returncode == 0
