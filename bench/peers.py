"""Virtual environments of the servers that Naiad is measured beside: `python -m bench.peers` makes them all.

Each has its own folder under build/peers, for their dependencies exclude each other. They are made once; one
that is there is used by every later run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from bench.processes import ROOT
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FOLDER = ROOT / "build" / "peers"
_MADE = ".made-of"


class NotThereError(Exception):
    """It cannot be had on this machine; the text says why."""


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment with a few packages. With `same_engine` it also gets this one's ONNX Runtime."""

    name: str
    packages: tuple[str, ...]
    same_engine: bool = True

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return FOLDER / self.name

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Where its packages lie."""
        return next((self.folder / "lib").glob("python3*")) / "site-packages"

    @property
    def made(self) -> bool:
        """Whether it is there and holds what it should."""
        marker = self.folder / _MADE
        return marker.is_file() and marker.read_text(encoding="utf-8") == self._wanted()

    def make(self, console: Console) -> None:
        """Make it, a line of progress at a time; nothing to do where it is made.

        Raises:
            NotThereError: a package cannot be had. Nothing is left behind.
        """
        if self.made:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        packages = self._wanted().split()
        with console.status(f"{self.name}: a virtual environment") as status:
            try:
                _run(status.update, self.name, sys.executable, "-m", "venv", str(self.folder))
                install = [str(self.python), "-m", "pip", "install", "--disable-pip-version-check"]
                _run(status.update, self.name, *install, "--progress-bar=off", *packages)
            except NotThereError:
                shutil.rmtree(self.folder, ignore_errors=True)
                raise
        (self.folder / _MADE).write_text(self._wanted(), encoding="utf-8")

    def _wanted(self) -> str:
        return "\n".join((*self.packages, *([_engine()] if self.same_engine else ())))


TRITON = Environment("triton", ("nvidia-pytriton==0.7.0",))
MLSERVER = Environment("mlserver", ("mlserver==1.7.1",))
PLOTS = Environment("plots", ("matplotlib>=3.9,<4",), same_engine=False)
"""Not a peer: what draws the pictures, so that a development environment does without it."""
ALL = (TRITON, MLSERVER, PLOTS)


def _engine() -> str:
    """The same release of the engine for every server, or the ratios would be about that."""
    try:
        return f"onnxruntime=={version('onnxruntime')}"
    except PackageNotFoundError:
        return "onnxruntime"


def _run(show: Callable[[str], None], name: str, *command: str) -> None:
    """Run a command, its last line of output shown as it goes."""
    last: deque[str] = deque(maxlen=5)
    try:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                last.append(line.strip())
                show(f"{name}: {line.strip()[:100]}")
    except OSError as error:
        raise NotThereError(f"{name}: {error}") from None
    if process.returncode:
        raise NotThereError(f"{name}: {' '.join(last)[-300:]}")


def make_all(console: Console) -> dict[str, str]:
    """Make every environment; why those that could not be made are not there, by name."""
    reasons = {}
    for environment in ALL:
        try:
            environment.make(console)
        except NotThereError as error:
            reasons[environment.name] = str(error)
        told = reasons.get(environment.name, str(environment.folder))
        console.print(f"{environment.name}: {told}", markup=False)
    return reasons


if __name__ == "__main__":
    raise SystemExit(bool(make_all(Console(stderr=True))))
