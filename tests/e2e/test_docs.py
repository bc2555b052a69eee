"""Every command in the README and the docs is run here, as a reader would type it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.processes import naiad_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]

BY_OTHERS = {
    "make demo": "run whole by test_demo.py, through the command that it calls",
    "make test": "it is what runs this test",
    "make lint": "run beside the tests by .ci/run",
    "make bench": "minutes long; its parts are tested with the benchmark",
    "pip install '.[cpu,demo,triton]'": "an install from a registry; the wheel and its extras are tested with the project",
}
"""Commands that a page shows and another check runs."""
NEEDS_AN_ENGINE = re.compile(r"(?:[A-Z_]+=\S+ )*docker ")
"""Commands for a container engine; what they name is checked by tests/unit/docker."""


def runs_here(line: str) -> bool:
    """Whether a line, with those that continue it, is for this test."""
    return line.split("#", maxsplit=1)[0].strip() not in BY_OTHERS and not NEEDS_AN_ENGINE.match(line)


def commands(page: Path) -> list[str]:
    """The bash blocks of a page, without the lines that another check runs."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    kept = []
    for block in blocks:
        lines = [line for line in re.split(r"(?<!\\)\n", block) if runs_here(line)]
        if any(line.split("#")[0].strip() for line in lines):
            kept.append("\n".join(lines))
    return kept


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


CASES = [
    pytest.param(page, block, id=f"{page.relative_to(ROOT)}:{index}")
    for page in PAGES
    for index, block in enumerate(commands(page))
]


OPENING = """\
naiad demo build demo-repository
naiad demo photo photo.jpg
"""
SERVER = "naiad serve --model-repository demo-repository &\n"
"""Most examples begin with these lines: they run once for all of them, which share what they make and the server."""


class Place:
    """A folder that holds the client examples and configurations as a checkout would, and a server's ports."""

    def __init__(self, folder: Path, ports: tuple[int, ...] = ()) -> None:
        self.folder = folder
        self.ports = ports or (free_port(), free_port(), free_port())
        for name in ("clients", "model_repository"):
            (folder / name).symlink_to(ROOT / name)

    def command(self, script: str) -> dict[str, Any]:
        """The arguments of a process that runs the script as a reader would, on the ports of this place."""
        grpc_port, http_port, metrics_port = map(str, self.ports)
        script = script.replace("8001", grpc_port).replace("8000", http_port).replace("8002", metrics_port)
        environment = naiad_environment(
            PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            NAIAD_GRPC_ADDRESS="127.0.0.1",
            NAIAD_HTTP_ADDRESS="127.0.0.1",
            NAIAD_GRPC_PORT=grpc_port,
            NAIAD_HTTP_PORT=http_port,
            NAIAD_METRICS_PORT=metrics_port,
        )
        # The server that a script puts into the background ends with it.
        whole = f"set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n{script}\n"
        return {"args": ["bash", "-c", whole], "cwd": self.folder, "env": environment}


def run(place: Place, script: str) -> None:
    """Run it to its end; AssertionError with its output if it fails."""
    done = subprocess.run(**place.command(script), capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, f"{script}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Where the opening was run, and its server still does."""
    place = Place(tmp_path_factory.mktemp("opened"))
    run(place, OPENING)
    # To a file: nobody would read a pipe while the examples run.
    with (place.folder / "log").open("wb") as log:
        command = place.command(f"{SERVER}read -r || true")
        with subprocess.Popen(**command, stdin=subprocess.PIPE, stdout=log, stderr=log) as process:
            yield place
        assert process.returncode == 0, (place.folder / "log").read_text()


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("page", "block"), CASES)
def test_the_commands_of_a_page_work_as_written(
    page: Path, block: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """In a folder of its own; what begins as most examples do goes on where the opening was run."""
    if not block.startswith(OPENING + SERVER):
        run(Place(tmp_path), block)
        return
    opened: Place = request.getfixturevalue("opened")
    (tmp_path / "demo-repository").symlink_to(opened.folder / "demo-repository")
    shutil.copy(opened.folder / "photo.jpg", tmp_path)
    run(Place(tmp_path, opened.ports), block.removeprefix(OPENING + SERVER))


def test_most_examples_begin_alike() -> None:
    """Or the pages have changed, and each of their blocks starts a server of its own here."""
    alike = [case.id for case in CASES if str(case.values[1]).startswith(OPENING + SERVER)]
    assert len(alike) >= 5, alike
