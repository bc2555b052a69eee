"""gRPC is told how to poll before it is imported, and only what it understands."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from naiad.services.grpc_polling import OFF, VARIABLE, choose_polling

if TYPE_CHECKING:
    from pathlib import Path


def test_the_installed_grpc_is_told_and_says_nothing_about_it() -> None:
    """A name that it does not know would be a line on standard error."""
    environ: dict[str, str] = {}
    told = choose_polling(environ)
    if not told:
        pytest.skip("this gRPC does not know the names any more")
    assert environ == {VARIABLE: "-event_engine_listener,-event_engine_client"}
    code = "import grpc; grpc.insecure_channel('localhost:1').close()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True, timeout=50
    )
    assert done.stderr == ""


def test_what_the_operator_has_set_stays(tmp_path: Path) -> None:
    for own in ("", "tcp_frame_size_tuning"):
        assert choose_polling({VARIABLE: own}, core_with(tmp_path, *OFF)) == own


def test_a_grpc_that_does_not_know_the_names_is_told_nothing(tmp_path: Path) -> None:
    for known in ((), OFF[:1], (OFF[0], OFF[1] + "_v2")):
        environ: dict[str, str] = {}
        assert choose_polling(environ, core_with(tmp_path, *known)) == ""
        assert environ == {}


def core_with(folder: Path, *names: str) -> Path:
    core = folder / "cygrpc.so"
    core.write_bytes(b"\x7fELF" + b"".join(name.encode() + b"\0" for name in names))
    return core
