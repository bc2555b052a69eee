"""`naiad explain`: how a model's requests are scheduled, from its folder or from a server that runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from naiad.cli.check import setting
from naiad.cli.check_json import plain
from naiad.cli.check_text import plain_block, render_block
from naiad.cli.explain_text import live_block, planned_block
from naiad.config.server_config import ServerConfig, environment_name, server_config
from naiad.core.errors import InvalidArgumentError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.cli.check_text import Block
    from naiad.lifecycle.inspection import ModelReport

FORMAT = 1
"""Of the JSON; another number once a key is renamed or removed."""

_FIELDS = (
    "model_config_name",
    "disable_auto_complete_config",
    "default_max_batch_size",
    "cpu_threads",
    "measure_layout",
    "max_queue_size",
)


def explain(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.", show_default=False)],
    model_repository: Annotated[
        list[Path] | None,
        typer.Option(
            "--model-repository",
            metavar="DIR",
            envvar=environment_name("model_repository"),
            help="Say what a server would do with the model in this repository. May be given several times.",
            show_default=False,
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", metavar="HOST:PORT", help="Say what the server at this gRPC address does with it now."
        ),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs.")] = False,
    model_config_name: Annotated[str | None, setting("model_config_name", "NAME")] = None,
    disable_auto_complete_config: Annotated[
        str | None, setting("disable_auto_complete_config", "true|false")
    ] = None,
    default_max_batch_size: Annotated[str | None, setting("default_max_batch_size", "INTEGER")] = None,
    cpu_threads: Annotated[str | None, setting("cpu_threads", "INTEGER")] = None,
    measure_layout: Annotated[str | None, setting("measure_layout", "true|false")] = None,
    max_queue_size: Annotated[str | None, setting("max_queue_size", "INTEGER")] = None,
) -> None:
    """Say what is batched with what, when a batch starts, where it runs, and how long a request may wait.

    A request with the parameter naiad_explain is told the same of itself, in the same words. The exit code is
    1 if the model is not there or broken.
    """
    if url is not None:
        _explain_live(model, url, as_json=as_json)
        return
    if not model_repository:
        raise InvalidArgumentError("say where the model is: --model-repository=DIR or --url=HOST:PORT")
    given = (
        model_config_name,
        disable_auto_complete_config,
        default_max_batch_size,
        cpu_threads,
        measure_layout,
        max_queue_size,
    )
    flags = {field: value for field, value in zip(_FIELDS, given, strict=True) if value is not None}
    _explain_planned(model, _settings(model_repository, flags), as_json=as_json)


def _settings(repositories: Sequence[Path], flags: dict[str, str]) -> ServerConfig:
    """The server's settings as far as they matter here."""
    names = {environment_name(field) for field in _FIELDS}
    environment = {name: value for name, value in os.environ.items() if name in names}
    return server_config({**flags, "model_repository": repositories}, environment)


def _explain_planned(name: str, config: ServerConfig, *, as_json: bool) -> None:
    model = _inspect(name, config)
    if as_json:
        typer.echo(json.dumps({"format": FORMAT, "source": "repository"} | plain(model), indent=2))
    else:
        _print(
            [planned_block(model, version, config.max_queue_size) for version in model.versions or (None,)]
        )
    if not model.ok:
        raise typer.Exit(1)


def _inspect(name: str, config: ServerConfig) -> ModelReport:
    # Imported here so that a wrong flag is told without loading the engine.
    from naiad.lifecycle.inspector import Inspector  # noqa: PLC0415
    from naiad.repository.layout import scan  # noqa: PLC0415
    from naiad.runtime.ort_environment import OrtEnvironment  # noqa: PLC0415
    from naiad.runtime.threads import read_cpu_budget  # noqa: PLC0415

    found = scan(config.model_repository)
    if name in found.problems:
        raise InvalidArgumentError(f"model '{name}': {found.problems[name]}")
    folder = next((folder for folder in found.models if folder.name == name), None)
    if folder is None:
        places = ", ".join(map(str, config.model_repository))
        raise NotFoundError(f"there is no model '{name}' in {places}")
    inspector = Inspector(
        OrtEnvironment.detect(),
        read_cpu_budget(config.cpu_threads),
        auto_complete=not config.disable_auto_complete_config,
        default_max_batch_size=config.default_max_batch_size,
        config_name=config.model_config_name,
        measures=config.measure_layout,
    )
    return inspector.inspect_model(folder)


def _explain_live(name: str, url: str, *, as_json: bool) -> None:
    from naiad.cli.explain_live import ask_server  # noqa: PLC0415  # as above: it loads gRPC

    model = ask_server(url, name)
    if as_json:
        typer.echo(json.dumps({"format": FORMAT, "source": "server"} | plain(model), indent=2))
    else:
        _print([live_block(model, version) for version in model.versions])


def _print(blocks: Sequence[Block]) -> None:
    console = Console()
    for index, block in enumerate(blocks):
        if console.is_terminal:
            console.print(render_block(block))
        else:
            typer.echo("\n" * (index > 0) + "\n".join(plain_block(block)))
