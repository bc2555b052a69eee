"""`naiad check`: validate a model repository without serving it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def check(repository: Annotated[list[Path], typer.Argument(help="Model repositories to look at.")]) -> None:
    """Say what would be loaded, how it would be batched, and what of each config would be ignored."""
