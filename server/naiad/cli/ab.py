"""`naiad ab`: what an experiment on a model's versions shows, and decisions on it."""

from __future__ import annotations

import getpass
import json as json_format
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from rich.console import Console
from rich.live import Live

from naiad.cli.client_side import say
from naiad.cli.server_options import DEFAULT_ADDRESS, Address, Headers, Json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from naiad.cli.ab_calls import ExperimentCalls
    from naiad.lifecycle.experiments.decisions import Kind

Model: TypeAlias = Annotated[str, typer.Argument(metavar="MODEL", show_default=False)]
Version: TypeAlias = Annotated[int, typer.Argument(metavar="VERSION", min=1, show_default=False)]
Reason: TypeAlias = Annotated[
    str, typer.Option("--reason", help="Why, for the audit log.", show_default=False)
]

_WATCH_S = 2.0

# The help is click's own: rich's table cuts off names that its columns have no room for.
ab = typer.Typer(
    help="Compare versions of a model on a server that runs, and decide between them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@ab.callback()
def _group() -> None:
    """Compare versions of a model on a server that runs, and decide between them.

    An experiment is a file experiment.json beside the model's versions. Decisions need a server with
    --allow-experiment-decisions=true; without it, edit the file.
    """


@ab.command("list")
def list_experiments(
    *, address: Address = DEFAULT_ADDRESS, header: Headers = None, json: Json = False
) -> None:
    """Name the models that have an experiment, and what its state is."""
    with _connected(address, header) as calls:
        reports = [calls.report(model) for model in calls.models()]
    if json:
        say(json_format.dumps([{"model": report.model, "state": report.state} for report in reports]))
        return
    for report in reports:
        say(f"{report.model}: {report.state}")
    if not reports:
        say("no model has an experiment")


@ab.command()
def report(
    model: Model,
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every two seconds.")] = False,
    address: Address = DEFAULT_ADDRESS,
    header: Headers = None,
    json: Json = False,
) -> None:
    """Show what each version did, how sure that is, and what the guard says.

    The intervals hold at all times at once: looking early, or often, makes them no less right. The exit code
    is 1 if a candidate was rolled back.
    """
    from naiad.lifecycle.experiments.report import to_json  # noqa: PLC0415  # loaded once it is needed
    from naiad.lifecycle.experiments.report_text import plain_text, render  # noqa: PLC0415

    with _connected(address, header) as calls:
        found = calls.report(model)
        console = Console()
        if json:
            say(to_json(found))
        elif not console.is_terminal:
            say(plain_text(found).rstrip())
        elif not watch:
            console.print(render(found))
        else:
            with Live(render(found), console=console, auto_refresh=False) as live:
                while True:
                    time.sleep(_WATCH_S)
                    live.update(render(calls.report(model)), refresh=True)
    raise typer.Exit(int(any(arm.state == "rolled back" for arm in found.arms)))


@ab.command()
def rollback(
    model: Model,
    version: Version,
    *,
    reason: Reason = "by hand",
    address: Address = DEFAULT_ADDRESS,
    header: Headers = None,
) -> None:
    """Withdraw a candidate: its callers get the baseline at once."""
    _decide(model, "roll_back", version, reason, address, header)


@ab.command()
def promote(
    model: Model,
    version: Version,
    *,
    reason: Reason = "by hand",
    address: Address = DEFAULT_ADDRESS,
    header: Headers = None,
) -> None:
    """Let a candidate answer everybody, until the file says so itself."""
    _decide(model, "promote", version, reason, address, header)


@ab.command()
def resume(
    model: Model,
    version: Annotated[
        int, typer.Argument(metavar="[VERSION]", min=0, help="0 for all candidates.", show_default=False)
    ] = 0,
    *,
    reason: Reason = "by hand",
    address: Address = DEFAULT_ADDRESS,
    header: Headers = None,
) -> None:
    """Take back what was decided on a candidate: it gets what the file gives it."""
    _decide(model, "resume", version, reason, address, header)


@ab.command()
def replay(
    place: Annotated[
        Path, typer.Argument(metavar="PLACE", help="A kept request, or a folder of them.", show_default=False)
    ],
    *,
    address: Address = DEFAULT_ADDRESS,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Write pictures with both versions' faces there."),
    ] = None,
    max_disagreement: Annotated[
        float | None,
        typer.Option("--max-disagreement", min=0, max=1, help="Exit with 1 if one is above this."),
    ] = None,
) -> None:
    """Send the requests that a shadow disagreed on most to both versions again."""
    from naiad.cli.ab_replay import ReplayJob, run_replay  # noqa: PLC0415  # with Triton's client

    job = ReplayJob(address, output=output, max_disagreement=max_disagreement)
    raise typer.Exit(run_replay(job, place))


@ab.command()
def schema() -> None:
    """Print the JSON Schema of experiment.json, for editors."""
    from naiad.config.experiment_config import ExperimentConfig  # noqa: PLC0415  # loaded once it is needed

    say(json_format.dumps(ExperimentConfig.model_json_schema(), indent=2))


def _decide(  # noqa: PLR0917  # the commands' own arguments
    model: str, kind: Kind, version: int, reason: str, address: str, header: Sequence[str] | None
) -> None:
    with _connected(address, header) as calls:
        state = calls.decide(model, kind, version, reason=reason, by=_user()).state
    say(f"{model}: {state}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers
        return ""


@contextmanager
def _connected(address: str, headers: Sequence[str] | None) -> Iterator[ExperimentCalls]:
    from naiad.cli.ab_calls import ExperimentCalls  # noqa: PLC0415  # gRPC and messages: 0.2 s

    with ExperimentCalls(address, headers or ()) as calls:
        yield calls
