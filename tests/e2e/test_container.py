"""A server as a read-only container runs it: nothing is written but what was asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from support.onnx_models import add_sub
from support.processes import ServerProcess, naiad_environment
from support.repositories import ADD_SUB_CONFIG, add_model

if TYPE_CHECKING:
    from pathlib import Path


def files(*folders: Path) -> set[tuple[str, int]]:
    """Every path below the folders and when it was changed."""
    return {
        (str(path), path.lstat().st_mtime_ns) for folder in folders for path in (folder, *folder.rglob("*"))
    }


def test_a_server_writes_nothing_and_its_health_check_follows_it(tmp_path: Path) -> None:
    """Home, temporary folder, cache and repository are as they were; the check says yes, then no."""
    models, home, temporary, cache = (tmp_path / name for name in ("models", "home", "tmp", "cache"))
    for folder in (models, home, temporary, cache):
        folder.mkdir()
    add_model(models, "simple", add_sub(), ADD_SUB_CONFIG)
    before = files(models, home, temporary, cache)
    environment = {"HOME": str(home), "TMPDIR": str(temporary), "XDG_CACHE_HOME": str(cache)}
    with ServerProcess(models, PYTHONDONTWRITEBYTECODE="1", **environment) as server:
        ready = server.wait_for("ready")
        assert _health(ready["http"]) == (0, "live\n", "")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    code, said, error = _health(ready["http"])
    assert (code, said) == (1, "")
    assert error.startswith(f"error: the server at http://{ready['http']} does not answer: ")
    assert files(models, home, temporary, cache) == before


def _health(address: str) -> tuple[int, str, str]:
    """Exit code and output of the image's health check, which finds its server by the environment."""
    host, port = address.split(":")
    result = subprocess.run(
        [sys.executable, "-m", "naiad", "health"],
        cwd=os.sep,
        env=naiad_environment(NAIAD_HTTP_ADDRESS=host, NAIAD_HTTP_PORT=port),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return result.returncode, result.stdout, result.stderr
