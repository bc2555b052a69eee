"""`naiad models`: what a running server serves, and loading and unloading it."""

from __future__ import annotations

import json as json_format
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from naiad.cli.client_side import complain, say
from naiad.cli.server_options import DEFAULT_ADDRESS, Address, Headers, Json
from naiad.core.errors import InternalError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from naiad.cli.model_calls import Line, ModelCalls

Names: TypeAlias = Annotated[list[str], typer.Argument(metavar="NAME", show_default=False)]
AnyNames: TypeAlias = Annotated[
    list[str] | None, typer.Argument(metavar="NAME", help="Only these models.", show_default=False)
]

_PLAIN_WIDTH = 10_000  # what reads a pipe wants a model a line, however long its reason

# The help is click's own: rich's table cuts off names that its columns have no room for.
models = typer.Typer(
    help="List, load and unload the models of a server that runs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@models.callback()
def _group() -> None:
    """List, load and unload the models of a server that runs.

    Loading needs a server in --model-control-mode explicit.
    """


@models.command("list")
def list_models(
    names: AnyNames = None, *, address: Address = DEFAULT_ADDRESS, header: Headers = None, json: Json = False
) -> None:
    """Show each version's state, and why it does not serve. The exit code is 1 if a NAME is unknown."""
    with _connected(address, header) as calls:
        lines = calls.index(names or ())
    if json:
        say(json_format.dumps([asdict(line) for line in lines]))
    else:
        _print_table(lines)


@models.command()
def load(
    names: Names, *, address: Address = DEFAULT_ADDRESS, header: Headers = None, json: Json = False
) -> None:
    """Load models and wait until they are warm. The exit code is 1 if one does not load."""

    def one(calls: ModelCalls, name: str) -> list[str]:
        calls.load(name)
        return [_serving(calls.index(), name)]

    _each(names, one, doing="loading", address=address, header=header, json=json)


@models.command()
def unload(
    names: Names,
    *,
    dependents: Annotated[
        bool, typer.Option("--dependents", help="Unload what an ensemble is composed of, too.")
    ] = False,
    address: Address = DEFAULT_ADDRESS,
    header: Headers = None,
    json: Json = False,
) -> None:
    """Unload models; what they have accepted is still answered."""

    def one(calls: ModelCalls, name: str) -> list[str]:
        calls.unload(name, dependents=dependents)
        return ["unloaded"]

    _each(names, one, doing="unloading", address=address, header=header, json=json)


@models.command()
def reload(
    names: Names, *, address: Address = DEFAULT_ADDRESS, header: Headers = None, json: Json = False
) -> None:
    """Load models anew, as far as their folders have changed, and say what is different.

    What serves goes on until the new versions are warm, and if they do not load. The exit code is then 1.
    """

    def one(calls: ModelCalls, name: str) -> list[str]:
        from naiad.cli.model_changes import list_changes  # noqa: PLC0415  # with Triton's messages

        before, old = calls.index(), calls.config(name)
        calls.load(name)
        after, new = calls.index(), calls.config(name)
        return list_changes(_versions(before, name), _versions(after, name), old, new) or [
            f"{_serving(after, name)}, as before; what changed in their files was loaded anew"
        ]

    _each(names, one, doing="reloading", address=address, header=header, json=json)


@contextmanager
def _connected(address: str, headers: Sequence[str] | None) -> Iterator[ModelCalls]:
    from naiad.cli.model_calls import ModelCalls  # noqa: PLC0415  # gRPC and Triton's messages: 0.2 s

    with ModelCalls(address, headers or ()) as calls:
        yield calls


def _each(
    names: Sequence[str],
    one: Callable[[ModelCalls, str], list[str]],
    *,
    doing: str,
    address: str,
    header: Sequence[str] | None,
    json: bool,
) -> None:
    """Do it to each model, whatever becomes of the others; exit code 1 if one was refused."""
    told: list[dict[str, object]] = []
    failed = False
    with _connected(address, header) as calls:
        for name in names:
            try:
                with _spinner(f"{doing} {name}"):
                    lines = one(calls, name)
            except (InternalError, NotFoundError) as error:
                failed = True
                told.append({"name": name, "ok": False, "reason": error.message})
                if not json:
                    complain(f"{name}: {error.message}")
            else:
                told.append({"name": name, "ok": True, "changes": lines})
                if not json:
                    for line in lines:
                        say(f"{name}: {line}")
    if json:
        say(json_format.dumps(told))
    raise typer.Exit(int(failed))


@contextmanager
def _spinner(text: str) -> Iterator[None]:
    """Something that turns on standard error, where that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(Text(text)):
        yield


def _versions(lines: Sequence[Line], name: str) -> dict[int, Line]:
    return {line.version: line for line in lines if line.name == name and line.version is not None}


def _serving(lines: Sequence[Line], name: str) -> str:
    ready = [str(number) for number, line in sorted(_versions(lines, name).items()) if line.state == "READY"]
    if not ready:  # of a model that is in no repository the index has no line
        return "loaded"
    return f"version{'s' * (len(ready) > 1)} {', '.join(ready)} serve{'s' * (len(ready) == 1)}"


def _print_table(lines: Sequence[Line]) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PLAIN_WIDTH)
    table = Table("MODEL", "VERSION", "STATE", "REASON", box=None, pad_edge=False)
    colors = {"READY": "green", "UNAVAILABLE": "red"}
    for line in lines:
        state = Text(line.state or "not loaded", colors.get(line.state, "yellow"))
        if line.reason == "unloaded":
            state = Text(line.state, "dim")
        version = "" if line.version is None else str(line.version)
        table.add_row(Text(line.name), version, state, Text(" ".join(line.reason.split())))
    console.print(table)
