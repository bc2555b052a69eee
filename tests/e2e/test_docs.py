"""Every command in the README and the docs is run here, as a reader would type it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import naiad_environment

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


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("page", "block"), CASES)
def test_the_commands_of_a_page_work_as_written(page: Path, block: str, tmp_path: Path) -> None:
    """In a folder that holds the client examples and a photo, as a checkout would, on a port of its own."""
    (tmp_path / "clients").symlink_to(ROOT / "clients")
    (tmp_path / "model_repository").symlink_to(ROOT / "model_repository")
    port, http_port, metrics_port = free_port(), free_port(), free_port()
    script = (
        block.replace("8001", str(port)).replace("8000", str(http_port)).replace("8002", str(metrics_port))
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = naiad_environment(
        PATH=path,
        NAIAD_GRPC_ADDRESS="127.0.0.1",
        NAIAD_HTTP_ADDRESS="127.0.0.1",
        NAIAD_GRPC_PORT=str(port),
        NAIAD_HTTP_PORT=str(http_port),
        NAIAD_METRICS_PORT=str(metrics_port),
    )
    # The server that a block puts into the background ends with the block.
    whole = f"set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n{script}\n"
    result = subprocess.run(
        ["bash", "-c", whole],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert result.returncode == 0, f"{page.name}:\n{block}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
