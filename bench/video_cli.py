"""The command of `video.py`: frames a second of StreamDetect beside the same work without a server."""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from bench.meter import Window
from bench.processes import ROOT, Server, Worker
from bench.report import machine
from bench.video_bare import STAGES
from bench.video_cases import VideoCase, build
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from naiad.core.errors import NaiadError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LOADS = ((1, 1), (1, 4), (4, 2), (16, 2))
"""(streams, frames in flight of each)."""


@dataclass(slots=True)
class Round:
    """Frames a second and CPU microseconds a frame of one window."""

    rate: float
    server_us: float
    client_us: float
    stages_us: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Measured:
    """A case's windows: of the limit, and of each load."""

    case: VideoCase
    bare: list[Round] = field(default_factory=list)
    served: dict[tuple[int, int], list[Round]] = field(default_factory=dict)

    def share(self, load: tuple[int, int]) -> float:
        """The median over the rounds of what the server does as a share of what the limit did just before."""
        pairs = zip(self.served[load], self.bare, strict=True)
        return statistics.median(served.rate / bare.rate for served, bare in pairs)


class Parts(NamedTuple):
    """The processes of a run."""

    server: Server
    bare: Worker
    client: Worker


def main() -> None:
    """Run the command; a fault that is no bug is one sentence and exit code 1."""
    try:
        typer.run(run)
    except NaiadError as error:
        print(f"error: {error.message}", file=sys.stderr)
        raise SystemExit(1) from None


def run(
    *,
    output: Annotated[Path, typer.Option(help="Folder for video.json and video.log.")] = Path("bench-output"),
    assets: Annotated[
        Path | None,
        typer.Option(help="Published models and clips; else NAIAD_ASSETS, ../shared/assets, or none."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is measured.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each window.")] = 4.0,
    only: Annotated[str, typer.Option(help="Only cases with this in their name.")] = "",
) -> None:
    """Measure how many frames a second StreamDetect does, and where the CPU time of a frame goes."""
    about = machine()
    output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="naiad-video-")))
        cases = [case for case in build(folder, _assets(assets)) if only in case.title]
        ports = ["--http-port=0", "--metrics-port=0", "--metrics-address=127.0.0.1"]
        repository = Path(cases[0].repository)
        parts = Parts(
            stack.enter_context(Server(repository, output / "video.log", *ports)),
            stack.enter_context(Worker("bench.video_bare")),
            stack.enter_context(Worker("bench.video_load")),
        )
        measured = list(_measure(cases, parts, rounds, seconds))
    report(output, about, {"rounds": rounds, "seconds": seconds}, measured)


def _assets(named: Path | None) -> Path | None:
    folder = named or Path(os.environ.get("NAIAD_ASSETS", ROOT.parent / "shared" / "assets"))
    return folder if (folder / "video").is_dir() else None


def _measure(cases: Sequence[VideoCase], parts: Parts, rounds: int, seconds: float) -> Iterator[Measured]:
    callers = len(os.sched_getaffinity(0))
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=len(cases) * rounds * (1 + len(LOADS)))
        for case in cases:
            progress.update(task, description=case.title)
            found = Measured(case)
            for _ in range(rounds):
                times = {"ramp_s": min(1.0, seconds / 2), "window_s": seconds}
                asked = parts.bare.ask(case=asdict(case), callers=callers, **times)
                stages = asked.pop("stages_us")
                found.bare.append(_round(Window(**asked), stages))
                progress.advance(task)
                for streams, in_flight in LOADS:
                    of = {"address": parts.server.address, "pid": parts.server.pid, **times}
                    asked = parts.client.ask(case=asdict(case), streams=streams, in_flight=in_flight, **of)
                    found.served.setdefault((streams, in_flight), []).append(_round(Window(**asked)))
                    progress.advance(task)
            yield found


def _round(window: Window, stages: dict[str, float] | None = None) -> Round:
    count = max(1.0, window.count)
    own, other = window.own_cpu_us / count, window.other_cpu_us / count
    rate = window.count / window.seconds
    return Round(rate, 0.0, own, stages) if stages else Round(rate, other, own)


def report(output: Path, about: dict[str, Any], settings: dict[str, Any], measured: list[Measured]) -> None:
    """Write the figures, print the tables."""
    content = {"machine": about, "settings": settings, "cases": [_as_json(each) for each in measured]}
    (output / "video.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(_rates(measured))
    console.print(_costs(measured))
    console.print(f"{about['cpu']}, {about['cpus']} CPUs shared by client and server; medians")
    console.print(str(output / "video.json"), soft_wrap=True)


def _as_json(measured: Measured) -> dict[str, Any]:
    served = {
        f"{streams}x{in_flight}": [asdict(each) for each in rounds]
        for (streams, in_flight), rounds in measured.served.items()
    }
    return {"case": measured.case.title, "bare": [asdict(each) for each in measured.bare], "served": served}


def _rates(measured: list[Measured]) -> Table:
    table = Table(title="Frames a second: JPEG to faces", title_justify="left")
    table.add_column("detector, frames")
    table.add_column("no server", justify="right")
    for streams, in_flight in LOADS:
        table.add_column(f"{streams} x {in_flight} in flight", justify="right")
    table.add_column("best of no server", justify="right")
    table.add_column("one stream, real time", justify="right")
    for each in measured:
        rates = {load: statistics.median(one.rate for one in rounds) for load, rounds in each.served.items()}
        cells = [f"{rate:.1f} ({each.share(load):.2f})" for load, rate in rates.items()]
        best = max(each.share(load) for load in LOADS)
        bare = statistics.median(one.rate for one in each.bare)
        real = rates[LOADS[1]] / each.case.rate
        table.add_row(each.case.title, f"{bare:.1f}", *cells, f"{best:.2f}", f"{real:.1f} x")
    return table


def _costs(measured: list[Measured]) -> Table:
    table = Table(title="CPU milliseconds a frame", title_justify="left")
    table.add_column("detector, frames")
    for name in (*STAGES, "all of it", "server", "client"):
        table.add_column(name, justify="right")
    for each in measured:
        stages = [statistics.median(one.stages_us[name] for one in each.bare) for name in STAGES]
        busy = each.served[4, 2]
        server, client = (
            statistics.median(getattr(one, name) for one in busy) for name in ("server_us", "client_us")
        )
        figures = [*stages, sum(stages), server, client]
        table.add_row(each.case.title, *(f"{figure / 1000:.2f}" for figure in figures))
    return table
