"""The command: builds the models, starts the server, measures in rounds, reports."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from bench.cases import build_cases
from bench.plot import write_plot
from bench.processes import Server, Worker
from bench.report import machine, table, write_json
from bench.results import Series, summarise
from rich.console import Console
from rich.progress import Progress

from naiad.core.errors import InternalError, InvalidArgumentError, NaiadError
from naiad.runtime.threads import read_cpu_budget

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.cases import Case
    from bench.results import Row

_RAMP_S = 0.5
_BARE_SHARE = 0.5
"""The bare loops need less time than the load: they have no queue to fill."""

app = typer.Typer(add_completion=False)


def main() -> None:
    """Run the command; a fault that is no bug is one sentence and exit code 1."""
    try:
        app()
    except NaiadError as error:
        print(f"error: {error.message}", file=sys.stderr)
        raise SystemExit(1) from None


@app.command()
def run(
    *,
    output: Annotated[Path, typer.Option(help="Folder for results.json, results.png and server.log.")] = Path(
        "bench-output"
    ),
    models: Annotated[
        Path | None, typer.Option(help="A folder of your own *.onnx files to measure too.")
    ] = None,
    only: Annotated[str, typer.Option(help="Measure the cases whose name contains this.")] = "",
    rounds: Annotated[int, typer.Option(min=1, help="How often everything is measured.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of one measurement.")] = 3.0,
    in_flight: Annotated[str, typer.Option(help="Requests in flight, several with commas.")] = "1,8,32",
) -> None:
    """Measure Naiad beside bare ONNX Runtime on this machine."""
    about = machine()
    levels = _levels(in_flight)
    output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        repository = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="naiad-bench-")))
        cases = [case for case in build_cases(repository, models) if only in case.name]
        if not cases:
            raise InvalidArgumentError(f"--only={only}: no case has that in its name")
        server = stack.enter_context(Server(repository, output / "server.log"))
        bare = stack.enter_context(Worker("bench.bare"))
        load = stack.enter_context(Worker("bench.load"))
        progress = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
        bench = Bench(cases, levels, server=server, bare=bare, load=load, seconds=seconds)
        task = progress.add_task("starting", total=rounds * bench.steps)
        for _ in range(rounds):
            for step in bench.round():
                progress.update(task, advance=1, description=step)
    settings = {"rounds": rounds, "seconds": seconds, "in_flight": levels, "only": only}
    _report(output, about, settings, summarise(bench.series))


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


def _report(output: Path, about: dict[str, Any], settings: dict[str, Any], rows: list[Row]) -> None:
    caption = f"{about['cpu']}, {about['cpus']} CPUs shared by client and server"
    write_json(output / "results.json", about, settings, rows)
    write_plot(output / "results.png", rows, caption)
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(table(rows))
    console.print(f"{caption}; load average before the run {about['load_average_before']:.2f}")
    console.print(f"{output / 'results.json'}, {output / 'results.png'}", soft_wrap=True)


class Bench:
    """All series of a run. A round measures each once, the bare ones of a case next to its served ones."""

    def __init__(
        self,
        cases: list[Case],
        levels: list[int],
        *,
        server: Server,
        bare: Worker,
        load: Worker,
        seconds: float,
    ) -> None:
        self._server = server
        self._bare = bare
        self._load = load
        self._seconds = seconds
        self._plan = [(case, *_series(case, levels)) for case in cases]

    @property
    def series(self) -> list[Series]:
        """Every series, case by case."""
        return [each for _, bare, served in self._plan for each in (*(series for series, _ in bare), *served)]

    @property
    def steps(self) -> int:
        """Measurements in a round."""
        return len(self.series)

    def round(self) -> Iterator[str]:
        """Measure everything once; yields the name of each series when it is done."""
        for case, bare, served in self._plan:
            expected: dict[str, float] = {}
            for series, batch in bare:
                window = self._run_bare(case, series, batch)
                expected = window["sums"]
                series.add(window)
                yield f"{case.name}, {series.caller}"
            for series in served:
                window = self._run_served(case, series)
                _check_answer(case, expected, window["sums"])
                series.add(window)
                yield f"{case.name}, {series.caller}"

    def _run_bare(self, case: Case, series: Series, batch: int) -> dict[str, Any]:
        return self._bare.ask(
            case=asdict(case),
            callers=series.in_flight,
            batch=batch,
            ramp_s=_RAMP_S * _BARE_SHARE,
            window_s=self._seconds * _BARE_SHARE,
        )

    def _run_served(self, case: Case, series: Series) -> dict[str, Any]:
        return self._load.ask(
            case=asdict(case),
            address=self._server.address,
            in_flight=series.in_flight,
            ramp_s=_RAMP_S,
            window_s=self._seconds,
            pid=self._server.pid,
        )


def _series(case: Case, levels: list[int]) -> tuple[list[tuple[Series, int]], list[Series]]:
    """The bare series with their batch sizes, and the served ones."""
    callers = max(2, read_cpu_budget().threads)
    bare = [
        (Series(case.name, "bare, 1 caller", 1, bare=True, is_limit=True), 1),
        (Series(case.name, f"bare, {callers} callers", callers, bare=True, is_limit=True), 1),
    ]
    if case.max_batch > 1:
        name = f"bare, {callers} x batch {case.max_batch}"
        bare.append((Series(case.name, name, callers, bare=True), case.max_batch))
    return bare, [Series(case.name, _served_name(case, level), level, bare=False) for level in levels]


def _served_name(case: Case, level: int) -> str:
    if not case.stream:
        return f"server, {level} in flight"
    return f"server, {level} stream{'s' if level > 1 else ''}"


def _check_answer(case: Case, expected: dict[str, float], received: dict[str, float]) -> None:
    """A fast wrong answer is no answer. Streams give faces and not tensors: nothing to compare."""
    for name, value in received.items():
        if not np.isclose(value, expected[name], rtol=1e-3, atol=1e-3):
            raise InternalError(
                f"'{case.name}': output '{name}' adds up to {value}, bare to {expected[name]}"
            )
