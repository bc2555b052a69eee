"""Every command in the README and the docs is run here, as a reader would type it."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.pages import ROOT, Place, bash_blocks, run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ONE_SESSION = {"versions.md": "a walk-through in one session: run whole by test_versions_page.py"}
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in (ROOT / "docs").glob("**/*.md") if page.name not in ONE_SESSION),
]

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
    kept = []
    for block in bash_blocks(page):
        lines = [line for line in re.split(r"(?<!\\)\n", block) if runs_here(line)]
        if any(line.split("#")[0].strip() for line in lines):
            kept.append("\n".join(lines))
    return kept


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


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Where the opening was run, and its server still does."""
    place = Place(tmp_path_factory.mktemp("opened"))
    run_script(place, OPENING)
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
        run_script(Place(tmp_path), block)
        return
    opened: Place = request.getfixturevalue("opened")
    (tmp_path / "demo-repository").symlink_to(opened.folder / "demo-repository")
    shutil.copy(opened.folder / "photo.jpg", tmp_path)
    run_script(Place(tmp_path, opened.ports), block.removeprefix(OPENING + SERVER))


def test_most_examples_begin_alike() -> None:
    """Or the pages have changed, and each of their blocks starts a server of its own here."""
    alike = [case.id for case in CASES if str(case.values[1]).startswith(OPENING + SERVER)]
    assert len(alike) >= 5, alike
