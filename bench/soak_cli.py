"""The command of `soak.py`: loads a server, reloads its models, and says whether its memory stays flat."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from bench.report import machine
from bench.soak_bare import bare_samples
from bench.soak_fit import judge
from bench.soak_load import SERVER_FLAGS, Load
from bench.soak_models import model_names, write_models
from bench.soak_reload import Reloader, reload_kinds
from bench.soak_report import report
from bench.soak_server import SoakServer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from naiad.core.errors import NaiadError

if TYPE_CHECKING:
    from collections.abc import Callable

_SAMPLES = 400
"""A run of any length has about as many."""
_SHORTEST_S = 0.25


@dataclass(slots=True)
class Soak:
    """A run's settings, and its samples so far."""

    minutes: float
    reloads: int
    seed: int
    only: list[str]
    rest_s: float
    loaded: bool
    callers: list[str]
    growth: bool
    samples: list[dict[str, Any]] = field(default_factory=list)


def main() -> None:
    """Run the command; a fault that is no bug is one sentence and exit code 1."""
    try:
        typer.run(run)
    except NaiadError as error:
        print(f"error: {error.message}", file=sys.stderr)
        raise SystemExit(1) from None


def run(
    *,
    output: Annotated[Path, typer.Option(help="Folder for soak.json, soak.png and soak.log.")] = Path(
        "bench-output"
    ),
    minutes: Annotated[float, typer.Option(min=0.05, help="How long it runs.")] = 60.0,
    reloads: Annotated[
        int, typer.Option(min=0, help="How many models are reloaded, evenly over the time.")
    ] = 200,
    seed: Annotated[int, typer.Option(help="What chance begins with.")] = 1,
    limit_mib: Annotated[
        float, typer.Option(help="MiB by which memory may grow in 10 reloads, or a minute without any.")
    ] = 1.0,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only reloads with this in their name, such as 'again dense'; also several times."),
    ] = None,
    load: Annotated[bool, typer.Option(help="Send requests beside the reloads.")] = True,
    caller: Annotated[
        list[str] | None,
        typer.Option(help="Only this kind of caller, such as unary or wrong; also several times."),
    ] = None,
    rest_ms: Annotated[float, typer.Option(min=0, help="How long a caller rests between two calls.")] = 50.0,
    assets: Annotated[
        Path | None, typer.Option(help="A folder whose models/ has UltraFace and YuNet, served too.")
    ] = None,
    tracemalloc: Annotated[
        bool, typer.Option(help="Say where Python's memory grows; slows the server down.")
    ] = False,
    bare: Annotated[
        bool, typer.Option(help="No server: bare ONNX Runtime opens and closes a model as often.")
    ] = False,
) -> None:
    """Watch the memory of a server under mixed load while its models are reloaded.

    Exit code 2 says that memory, threads or open files grow.
    """
    about = machine()
    output.mkdir(parents=True, exist_ok=True)
    settings = {name: value for name, value in locals().items() if name not in ("about", "output", "assets")}
    soak = Soak(minutes, reloads, seed, only or [], rest_ms / 1e3, load, caller or [], tracemalloc)
    console = Console(width=None if sys.stdout.isatty() else 150)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=minutes * 60)

        def tell(done_s: float, what: str) -> None:
            progress.update(task, completed=done_s, description=what)

        details = _bare(soak, tell) if bare else _served(soak, output, assets, tell)
    verdicts = judge(soak.samples, limit_mib)
    report(
        console,
        output,
        about=about | details,
        settings=settings,
        samples=soak.samples,
        verdicts=verdicts,
    )
    if any(each.passed is False for each in verdicts):
        raise typer.Exit(2)


def _bare(soak: Soak, tell: Callable[[float, str], None]) -> dict[str, Any]:
    for sample in bare_samples(max(1, soak.reloads)):
        soak.samples.append(sample)
        tell(soak.minutes * 60 * sample["reloads"] / max(1, soak.reloads), "bare ONNX Runtime")
    return {}


def _served(
    soak: Soak, output: Path, assets: Path | None, tell: Callable[[float, str], None]
) -> dict[str, Any]:
    with ExitStack() as stack:
        reload_kinds(model_names(assets), soak.only)  # a wrong name is told before anything is built
        repository = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="naiad-soak-")))
        models = write_models(repository, assets)
        server = stack.enter_context(
            SoakServer(
                repository, output / "soak.log", "--load-model=*", *SERVER_FLAGS, trace_python=soak.growth
            )
        )
        try:
            return asyncio.run(_Run(soak, server, tell).run(models))
        except ExceptionGroup as group:
            raise _first(group) from None


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """What went wrong first of all tasks, which is told in one sentence where it is one of ours."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, ExceptionGroup) else first


class _Run:
    """A run on a server that is up: the load, the reloads and the samples beside each other."""

    def __init__(self, soak: Soak, server: SoakServer, tell: Callable[[float, str], None]) -> None:
        self._soak = soak
        self._server = server
        self._tell = tell
        self._stop = asyncio.Event()
        self._start = time.monotonic()
        self._seconds = soak.minutes * 60
        self._at_work = asyncio.Lock()

    async def run(self, models: Any) -> dict[str, Any]:
        """What happened: the calls and the reloads by kind, and what grew."""
        soak = self._soak
        async with Load(self._server, models.detectors, soak.seed) as load:
            self._reloader = Reloader(load.client, models, soak.seed, soak.only)
            first: dict[str, Any] = {}
            async with asyncio.TaskGroup() as tasks:
                if soak.loaded:
                    tasks.create_task(load.run(self._stop, soak.rest_s, soak.callers))
                reloading = tasks.create_task(self._reload())
                every_s = max(_SHORTEST_S, self._seconds / _SAMPLES)
                while (passed := self._passed()) < self._seconds:
                    soak.samples.append(await self._sample())
                    if not first and passed > self._seconds / 4:
                        first = await self._look(objects=True, growth=True)
                    self._tell(passed, f"{self._reloader.count} reloads, {load.tally.ended.total()} calls")
                    await asyncio.sleep(min(every_s, max(0.0, self._seconds - self._passed())))
                self._stop.set()
                reloading.cancel()
        last = await self._look(objects=True, growth=True)
        return {
            "calls": load.tally.as_dict(),
            "reloads": dict(self._reloader.done),
            "grown_types": _grown(first.get("objects", {}), last["objects"]),
            "grown_lines": last.get("growth", []),
        }

    def _passed(self) -> float:
        return time.monotonic() - self._start

    async def _sample(self) -> dict[str, Any]:
        # Between two reloads: what a load takes and gives back again is not what is looked for.
        async with self._at_work:
            found = await self._look()
        return {"seconds": self._passed(), "reloads": self._reloader.count, **found}

    async def _look(self, **question: bool) -> dict[str, Any]:
        return await asyncio.to_thread(self._server.look, **question)

    async def _reload(self) -> None:
        """One reload each so many seconds, or as fast as the server can where it is slower than that."""
        wanted = self._soak.reloads
        for number in range(wanted):
            await asyncio.sleep(max(0.0, self._seconds * number / wanted - self._passed()))
            if self._reloader.count < wanted:
                async with self._at_work:
                    await self._reloader.step()


def _grown(before: dict[str, int], after: dict[str, int], most: int = 15) -> dict[str, int]:
    """The types of which there are more objects than a quarter into the run, most first."""
    grown = {name: count - before.get(name, 0) for name, count in after.items()} if before else {}
    return {
        name: count for name, count in sorted(grown.items(), key=lambda each: -each[1])[:most] if count > 0
    }
