"""The commands of a page of the docs, and the place where a reader would type them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.processes import naiad_environment

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).resolve().parents[2]


def bash_blocks(page: Path) -> list[str]:
    """The bash blocks of a page, as they stand there."""
    return re.findall(r"^```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Place:
    """A folder that holds the client examples and configurations as a checkout would, and a server's ports.

    Commands are looked for in `commands` before they are anywhere else.
    """

    def __init__(self, folder: Path, ports: tuple[int, ...] = (), commands: Iterable[Path] = ()) -> None:
        self.folder = folder
        self.ports = ports or (free_port(), free_port(), free_port())
        self._path = os.pathsep.join(map(str, [*commands, Path(sys.executable).parent, os.environ["PATH"]]))
        for name in ("clients", "model_repository"):
            (folder / name).symlink_to(ROOT / name)

    def command(self, script: str) -> dict[str, Any]:
        """The arguments of a process that runs the script as a reader would, on the ports of this place."""
        grpc_port, http_port, metrics_port = map(str, self.ports)
        script = script.replace("8001", grpc_port).replace("8000", http_port).replace("8002", metrics_port)
        environment = naiad_environment(
            PATH=self._path,
            NAIAD_GRPC_ADDRESS="127.0.0.1",
            NAIAD_HTTP_ADDRESS="127.0.0.1",
            NAIAD_GRPC_PORT=grpc_port,
            NAIAD_HTTP_PORT=http_port,
            NAIAD_METRICS_PORT=metrics_port,
        )
        # The server that a script puts into the background ends with it.
        whole = f"set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n{script}\n"
        return {"args": ["bash", "-c", whole], "cwd": self.folder, "env": environment}


def run_script(place: Place, script: str, timeout_s: float = 110) -> str:
    """Run it to its end; what it printed, or AssertionError with that if it fails or takes too long."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    with subprocess.Popen(**place.command(script), **pipes, text=True) as process:
        try:
            printed, complained = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            # With what it has put into the background, which would go on and hold the pipes.
            os.killpg(process.pid, signal.SIGKILL)
            printed, complained = process.communicate()
    assert process.returncode == 0, f"{script}\n{printed[-3000:]}\n{complained[-3000:]}"
    return str(printed)
