"""The commands, gathered; each lives in a module of its own."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from naiad import __version__
from naiad.cli.demo import demo
from naiad.cli.detect import detect, embed, video
from naiad.cli.health import run as run_health
from naiad.cli.serve import SERVE_CONTEXT, serve
from naiad.core.errors import NaiadError

_LATER = ("ab", "check", "explain", "models", "tensorrt")
"""Commands that need what no server does: the module and what it defines have the command's name."""


class PlainHelp(TyperCommand):
    """A command whose help is click's own: rich's table cuts off names that its columns have no room for."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **(settings | {"rich_markup_mode": None}))


class Commands(TyperGroup):
    """The commands; those of `_LATER` are imported once they are asked for: the others start sooner."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names in the order of the help."""
        first, *others = (name for name in super().list_commands(ctx) if name not in _LATER)
        return [first, *_LATER, *others]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, None if there is none; then all are there, from whose names one is suggested."""
        asked = (cmd_name,) if cmd_name in _LATER else () if cmd_name in self.commands else _LATER
        for name in asked:
            if name not in self.commands:
                self.add_command(_load(name))
        return super().get_command(ctx, cmd_name)


def _load(name: str) -> Any:
    """The command of the module of that name: a function, or a group of commands."""
    holder = typer.Typer(add_completion=False)
    command = getattr(import_module(f"{__package__}.{name}"), name)
    if isinstance(command, typer.Typer):
        holder.add_typer(command, name=name)
    else:
        holder.command(name, cls=PlainHelp)(command)
    return get_group(holder).commands[name]


app = typer.Typer(
    cls=Commands,
    name="naiad",
    help="Serve ONNX vision models over gRPC and HTTP from a Triton model repository.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(context_settings=SERVE_CONTEXT, add_help_option=False)(serve)
app.command(cls=PlainHelp)(detect)
app.command(cls=PlainHelp)(embed)
app.command(cls=PlainHelp)(video)
app.add_typer(demo, name="demo")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", help="Print Naiad's version.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Serve ONNX vision models over gRPC and HTTP from a Triton model repository."""


@app.command(context_settings=SERVE_CONTEXT, add_help_option=False)
def health(context: typer.Context) -> None:
    """Ask a server that runs whether it lives, or is ready: exit code 0 or 1."""
    raise typer.Exit(run_health(context.args))


@app.command()
def version() -> None:
    """Print Naiad's version."""
    typer.echo(__version__)


def main() -> None:
    """Run the command line; an expected failure is one line on standard error and exit code 1."""
    try:
        app()
    except NaiadError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        sys.exit(1)
