"""Builds the demo's model repository and shows how far it is; tells what was built from what was there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from naiad.demo.repository import build_repository

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.demo.screen import Screen

_GRAPHS = "*/*/model.onnx"


@dataclass(frozen=True, slots=True)
class Built:
    """A build's outcome.

    Attributes:
        repository: the model repository.
        files: every file of the demo's models.
        models: the models' names; `written` those of them that were not up to date.
    """

    repository: Path
    files: list[Path]
    models: list[str]
    written: list[str]

    @property
    def sentence(self) -> str:
        """What happened, for people."""
        if not self.written:
            return f"{', '.join(self.models)}: up to date in {self.repository}"
        return f"built {', '.join(self.written)} in {self.repository}"


def build_models(repository: Path, screen: Screen) -> Built:
    """Build what is missing or out of date.

    Raises:
        NaiadError: as `naiad.demo.repository.build_repository`.
    """
    before = _states(repository)
    with screen.counting("Models") as count:
        folders = build_repository(
            repository, progress=lambda name, done, total: count(done, total, f"built {name}")
        )
    after = _states(repository)
    changed = {path.parent.parent.name for path, state in after.items() if before.get(path) != state}
    return Built(
        repository=repository,
        files=sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()),
        models=[folder.name for folder in folders],
        written=[folder.name for folder in folders if folder.name in changed],
    )


def _states(repository: Path) -> dict[Path, tuple[int, int]]:
    """What tells a graph's file from one written in its place."""
    found = {path: path.stat() for path in repository.glob(_GRAPHS)}
    return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in found.items()}
