"""The commands to try after the demo, spelled so that they work when pasted where the demo was run."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

_EXAMPLE = "clients/python/examples/detect_photo.py"
_ONE_LINER = 'from naiad_client import Client; print(Client("localhost:8001").detect("{photo}").faces)'


class NextStep(NamedTuple):
    """Why one would, and the command."""

    reason: str
    command: str


def next_steps(
    repository: Path,
    photo: Path,
    *,
    python: Path | None = None,
    which: Callable[[str], str | None] = shutil.which,
) -> list[NextStep]:
    """Serve the repository, detect in a photo, check the repository.

    Args:
        repository: the model repository that was built.
        photo: a picture that exists, to be replaced by the user's own.
        python: the interpreter of the installation; by default the one that runs.
        which: finds a program on the user's PATH.
    """
    folder = (python or Path(sys.executable)).parent
    naiad, interpreter = _program(folder, "naiad", which), _program(folder, "python", which)
    # Where naiad is installed from a source tree, its examples lie in that tree.
    example = Path(__file__).resolve().parents[3] / _EXAMPLE
    program = [_shown(example), str(photo)] if example.is_file() else ["-c", _ONE_LINER.format(photo=photo)]
    return [
        NextStep(
            "serve these models on port 8001",
            shlex.join([naiad, "serve", "--model-repository", str(repository)]),
        ),
        NextStep(
            "in another terminal: find faces in a photo, here or your own",
            shlex.join([interpreter, *program]),
        ),
        NextStep(
            "see what the server makes of a model repository", shlex.join([naiad, "check", str(repository)])
        ),
    ]


def _program(folder: Path, name: str, which: Callable[[str], str | None]) -> str:
    """By name if the user's PATH leads to the one in `folder`, else by path."""
    found = which(name)
    if found is not None and Path(found).parent == folder:
        return name
    return _shown(folder / name)


def _shown(path: Path) -> str:
    """Relative to the current folder where it lies below it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative
