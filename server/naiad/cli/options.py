"""The help of `naiad serve`, made from the server config's fields, so that each is defined once."""

from __future__ import annotations

import types
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from rich.console import Console, Group
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from naiad.config.server_config import (
    GROUPS,
    ServerConfig,
    default_text,
    environment_name,
    flag_name,
    is_boolean,
    is_list,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from naiad.config.settings.kinds import SettingsGroup

_USAGE = "Usage: naiad serve --model-repository DIR [OPTIONS]"
_FORMS = (
    "Options are --flag VALUE or --flag=VALUE; a boolean alone is true. Each can be given as the environment "
    "variable in brackets; the flag wins. tritonserver's other flags are refused with a reason, or accepted "
    "with a warning where they change nothing a client can see."
)


def print_serve_help(about: str) -> None:
    """Write usage, the command's own text and one panel a group of settings to standard output."""
    console = Console(highlight=False, soft_wrap=False)
    console.print(Padding(Text(f"{_USAGE}\n\n{_paragraphs(about)}\n\n{_FORMS}"), (1, 1)))
    for group in GROUPS:
        console.print(_panel(group))


def value_name(field: str) -> str:
    """What stands for the value of a setting: DIR, or the words of a choice."""
    annotation = _plain(ServerConfig.model_fields[field].annotation)
    if get_origin(annotation) is Literal:
        return "|".join(map(str, get_args(annotation)))
    names = {bool: "true|false", int: "INTEGER", float: "NUMBER", Path: "PATH"}
    return names.get(annotation, "TEXT")


def _panel(group: type[SettingsGroup]) -> Panel:
    return Panel(
        Group(*(part for field in group.model_fields for part in _option(field))),
        title=group.TITLE,
        title_align="left",
        border_style="dim",
    )


def _option(field: str) -> Iterable[Text | Padding]:
    """The flag on a line of its own, since the longest leave no room beside them at 80 columns."""
    info = ServerConfig.model_fields[field]
    value = f"[{value_name(field)}]" if is_boolean(field) else value_name(field)
    several = " ..." if is_list(field) else ""
    yield Text.assemble((flag_name(field), "bold cyan"), " ", (f"{value}{several}", "yellow"), no_wrap=True)
    shown = default_text(info) if info.is_required() else f"default: {default_text(info)}"
    text = Text.assemble(info.description or "", (f" ({shown}) [{environment_name(field)}]", "dim"))
    yield Padding(text, (0, 0, 0, 4))


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _plain(annotation: Any) -> Any:
    """The type in an optional, a list or an annotated one."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType, tuple):
        return _plain(get_args(annotation)[0])
    return annotation
