"""The base install is the client's: the command says which extra the server needs."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("missing", ["typer", "onnxruntime", "cv2", "tritonclient"])
def test_without_the_servers_packages_the_command_names_the_extra(missing: str) -> None:
    """The interpreter is told that the package is not there, as in an environment with the client only."""
    hide = f"import sys; sys.modules[{missing!r}] = None; from naiad.__main__ import main; "
    ports = "'--grpc-port=0', '--http-port=0', '--metrics-port=0'"  # another server may have the usual ones
    run = f"sys.argv = ['naiad', 'serve', '--model-repository=.', {ports}]; main()"
    result = subprocess.run(
        [sys.executable, "-c", hide + run], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 1
    assert "naiad[cpu]" in result.stderr
    assert "Traceback" not in result.stderr
