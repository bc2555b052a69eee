"""The commands, gathered; each lives in a module of its own."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from naiad import __version__
from naiad.cli.check import check
from naiad.cli.demo import demo
from naiad.cli.detect import detect, embed, video
from naiad.cli.explain import explain
from naiad.cli.health import run as run_health
from naiad.cli.serve import SERVE_CONTEXT, serve
from naiad.cli.tensorrt import tensorrt
from naiad.core.errors import NaiadError


class PlainHelp(TyperCommand):
    """A command whose help is click's own: rich's table cuts off names that its columns have no room for."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **(settings | {"rich_markup_mode": None}))


app = typer.Typer(
    name="naiad",
    help="Serve ONNX vision models over gRPC and HTTP from a Triton model repository.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(context_settings=SERVE_CONTEXT, add_help_option=False)(serve)
app.command(cls=PlainHelp)(check)
app.command(cls=PlainHelp)(explain)
app.command(cls=PlainHelp)(detect)
app.command(cls=PlainHelp)(embed)
app.command(cls=PlainHelp)(video)
app.add_typer(demo, name="demo")
app.add_typer(tensorrt, name="tensorrt")


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
