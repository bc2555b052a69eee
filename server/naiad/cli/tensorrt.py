"""`naiad tensorrt build`: engines ahead of serving, so that the first start has them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from naiad.cli.check import setting
from naiad.config.server_config import environment_name, server_config
from naiad.core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from naiad.config.server_config import ServerConfig
    from naiad.lifecycle.engines import EngineReport

_FIELDS = (
    "model_config_name",
    "disable_auto_complete_config",
    "default_max_batch_size",
    "cpu_threads",
    "tensorrt_cache_directory",
    "tensorrt_cache_max_bytes",
)

# The help is click's own: rich's table cuts off names that its columns have no room for.
tensorrt = typer.Typer(
    help="Build TensorRT engines ahead of serving.", no_args_is_help=True, rich_markup_mode=None
)


@tensorrt.callback()
def _group() -> None:
    """Build TensorRT engines ahead of serving."""


@tensorrt.command()
def build(
    repository: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR…",
            envvar=environment_name("model_repository"),
            help="Model repositories whose models ask for TensorRT.",
            show_default=False,
        ),
    ],
    *,
    model_config_name: Annotated[str | None, setting("model_config_name", "NAME")] = None,
    disable_auto_complete_config: Annotated[
        str | None, setting("disable_auto_complete_config", "true|false")
    ] = None,
    default_max_batch_size: Annotated[str | None, setting("default_max_batch_size", "INTEGER")] = None,
    cpu_threads: Annotated[str | None, setting("cpu_threads", "INTEGER")] = None,
    tensorrt_cache_directory: Annotated[Path | None, setting("tensorrt_cache_directory", "DIR")] = None,
    tensorrt_cache_max_bytes: Annotated[str | None, setting("tensorrt_cache_max_bytes", "BYTES")] = None,
) -> None:
    """Build the engine of every model whose config asks for TensorRT, and keep it in the cache.

    Needs the GPU that will serve, or one of the same kind. The exit code is 1 if any engine could not be
    built, else 0.
    """
    given = (
        model_config_name,
        disable_auto_complete_config,
        default_max_batch_size,
        cpu_threads,
        tensorrt_cache_directory,
        tensorrt_cache_max_bytes,
    )
    flags = {field: value for field, value in zip(_FIELDS, given, strict=True) if value is not None}
    names = {environment_name(field) for field in _FIELDS}
    environment = {name: value for name, value in os.environ.items() if name in names}
    config = server_config({**flags, "model_repository": repository}, environment)
    all_built = True
    for report in _reports(config):
        detail = f": {report.reason}" if report.reason else ""
        state = "ready" if report.is_built else report.state
        typer.echo(f"{report.model}: {state} in {report.seconds:.1f} s{detail}")
        all_built = all_built and report.is_built
    if not all_built:
        raise typer.Exit(1)


def _reports(config: ServerConfig) -> Iterator[EngineReport]:
    # Imported here so that a wrong flag is told without loading the engine.
    from naiad.lifecycle.engines import build_engines  # noqa: PLC0415
    from naiad.lifecycle.loading import RepositoryLoader  # noqa: PLC0415
    from naiad.runtime.ort_environment import OrtEnvironment  # noqa: PLC0415
    from naiad.runtime.tensorrt.builder import EngineBuilder  # noqa: PLC0415
    from naiad.runtime.tensorrt.setup import default_cache_root, open_engine_service  # noqa: PLC0415
    from naiad.runtime.threads import read_cpu_budget  # noqa: PLC0415

    environment = OrtEnvironment.detect()
    builder = EngineBuilder()
    service = open_engine_service(
        environment,
        builder,
        root=config.tensorrt_cache_directory or default_cache_root(os.environ),
        max_bytes=config.tensorrt_cache_max_bytes,
        always_blocking=True,
    )
    if service is None:
        raise UnavailableError(
            f"no engine can be built here: this onnxruntime has {', '.join(environment.available)}, and "
            f"{environment.gpu_count} GPUs are visible; install naiad[tensorrt] where the GPU is"
        )
    loader = RepositoryLoader(
        environment,
        read_cpu_budget(config.cpu_threads),
        auto_complete=not config.disable_auto_complete_config,
        default_max_batch_size=config.default_max_batch_size,
        config_name=config.model_config_name,
        engines=service,
    )
    try:
        yield from build_engines(config.model_repository, loader)
    finally:
        builder.close(timeout_s=0)
