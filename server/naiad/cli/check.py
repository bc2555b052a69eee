"""`naiad check`: validate a model repository without serving it."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from naiad.cli.check_json import to_json
from naiad.cli.check_proposals import proposals_text, report_of
from naiad.cli.check_text import plain_text, print_terminal, printable
from naiad.cli.check_write import ProposalTarget
from naiad.config.server_config import ServerConfig, environment_name, flag_name, server_config

if TYPE_CHECKING:
    from naiad.lifecycle.inspection import Inspection

_FIELDS = (
    "model_config_name",
    "disable_auto_complete_config",
    "default_max_batch_size",
    "cpu_threads",
    "measure_layout",
)


_ENGINE = environment_name("engine")


class OutputFormat(Enum):
    """How the report is written."""

    TEXT = "text"
    JSON = "json"


def setting(field: str, metavar: str) -> typer.models.OptionInfo:
    """The option that `serve` has for the same field of the server config."""
    text = f"{ServerConfig.model_fields[field].description} (as for serve; {environment_name(field)})"
    option: typer.models.OptionInfo = typer.Option(flag_name(field), metavar=metavar, help=text)
    return option


def check(
    repository: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR…",
            envvar=environment_name("model_repository"),
            help="Model repositories to look at.",
            show_default=False,
        ),
    ],
    output: Annotated[
        OutputFormat, typer.Option("--format", help="Text to read, or JSON for programs.")
    ] = OutputFormat.TEXT,
    *,
    propose: Annotated[
        bool,
        typer.Option(
            "--propose",
            help="Write only what models without naiad. parameters could be declared as, as text for their "
            "configs.",
        ),
    ] = False,
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="With --propose: of this model alone.")
    ] = "",
    write: Annotated[
        bool,
        typer.Option(
            "--write",
            help="With --propose and --model: append what is proposed to the model's config, and show that.",
        ),
    ] = False,
    model_config_name: Annotated[str | None, setting("model_config_name", "NAME")] = None,
    disable_auto_complete_config: Annotated[
        str | None, setting("disable_auto_complete_config", "true|false")
    ] = None,
    default_max_batch_size: Annotated[str | None, setting("default_max_batch_size", "INTEGER")] = None,
    cpu_threads: Annotated[str | None, setting("cpu_threads", "INTEGER")] = None,
    measure_layout: Annotated[str | None, setting("measure_layout", "true|false")] = None,
) -> None:
    """Say what would be loaded, how it would be batched, and what of each config would be ignored.

    Nothing is served and nothing stays loaded. The exit code is 1 if any model is broken, else 0.
    """
    given = (
        model_config_name,
        disable_auto_complete_config,
        default_max_batch_size,
        cpu_threads,
        measure_layout,
    )
    flags = {field: value for field, value in zip(_FIELDS, given, strict=True) if value is not None}
    if os.environ.get(_ENGINE):
        typer.secho(
            f"{_ENGINE} is set and ignored: check looks at local model files alone, and asks no engine",
            fg="yellow",
            err=True,
        )
    _check_options(model, propose=propose and output is OutputFormat.TEXT, write=write)
    settings = _settings(repository, flags)
    # What the config holds is noted before anything is concluded from it.
    target = (
        ProposalTarget.read(settings.model_repository, model, settings.model_config_name) if write else None
    )
    inspection = _inspect(settings)
    if model:
        report = report_of(inspection, model)
        typer.echo(target.append(report) if target else proposals_text([report]), nl=False)
        is_ok = report.ok
    else:
        if propose and output is OutputFormat.TEXT:
            typer.echo(proposals_text(inspection.models), nl=False)
        else:
            _write(inspection, output)
        is_ok = inspection.ok
    if not is_ok:
        raise typer.Exit(1)


def _check_options(model: str, *, propose: bool, write: bool) -> None:
    if model and not propose:
        raise typer.BadParameter("it needs --propose, as text", param_hint="--model")
    if write and not model:
        raise typer.BadParameter("it needs --propose and --model", param_hint="--write")


def _settings(repository: list[Path], flags: dict[str, str]) -> ServerConfig:
    """The server's settings as far as they matter here; a bad NAIAD_GRPC_PORT, say, does not."""
    names = {environment_name(field) for field in _FIELDS}
    environment = {name: value for name, value in os.environ.items() if name in names}
    return server_config({**flags, "model_repository": repository}, environment)


def _inspect(config: ServerConfig) -> Inspection:
    # Imported here so that a wrong flag is told without loading the engine.
    from naiad.lifecycle.inspector import Inspector  # noqa: PLC0415
    from naiad.runtime.ort_environment import OrtEnvironment  # noqa: PLC0415
    from naiad.runtime.threads import read_cpu_budget  # noqa: PLC0415

    inspector = Inspector(
        OrtEnvironment.detect(),
        read_cpu_budget(config.cpu_threads),
        auto_complete=not config.disable_auto_complete_config,
        default_max_batch_size=config.default_max_batch_size,
        config_name=config.model_config_name,
        measures=config.measure_layout,
    )
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)

        def on_model(name: str, done: int, total: int) -> None:
            progress.update(task, description=printable(name), completed=done, total=total)

        return inspector.inspect(config.model_repository, on_model=on_model)


def _write(inspection: Inspection, output: OutputFormat) -> None:
    console = Console()
    if output is OutputFormat.JSON:
        typer.echo(to_json(inspection), nl=False)
    elif console.is_terminal:
        print_terminal(inspection, console)
    else:
        typer.echo(plain_text(inspection), nl=False)
