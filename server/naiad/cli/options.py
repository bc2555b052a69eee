"""Command-line options made from the server config's fields, so that each is defined once."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer

from naiad.config.server_config import ServerConfig, environment_name, flag_name


def with_config_options(command: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
    """Give `command` one option a field of `ServerConfig`.

    It is called with the values of the options that were given, by field name; the others are absent, so
    that the environment and the defaults can have their say.
    """

    def wrapped(**options: Any) -> None:
        command({name: value for name, value in options.items() if value not in (None, (), [])})

    parameters = [_parameter(name) for name in ServerConfig.model_fields]
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by typer
    wrapped.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    wrapped.__name__ = command.__name__
    wrapped.__doc__ = command.__doc__
    return wrapped


def _parameter(name: str) -> inspect.Parameter:
    field = ServerConfig.model_fields[name]
    default = "required" if field.is_required() else f"default: {_shown(field.default)}"
    text = f"{field.description} ({default}; {environment_name(name)})"
    many = name == "model_repository"
    option = typer.Option(flag_name(name), help=text, show_default=False, metavar=_metavar(field.annotation))
    kind: Any = list[str] if many else str
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return "automatic" if default is None else str(getattr(default, "value", default))


def _metavar(annotation: Any) -> str:
    """What the help shows for the value; the config itself parses it, the same as from the environment."""
    return {bool: "true|false", int: "INTEGER", float: "NUMBER", Path: "DIR"}.get(_plain(annotation), "TEXT")


def _plain(annotation: Any) -> Any:
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType, tuple):
        return _plain(get_args(annotation)[0])
    return annotation
