"""The server as a child process, with small programs in its place."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from naiad.core.errors import DeadlineExceededError, InternalError
from naiad.demo.server_process import ServerProcess

if TYPE_CHECKING:
    from pathlib import Path

READY = """print('{"event": "ready", "level": "info", "grpc": "127.0.0.1:1234"}', flush=True)"""
FOREVER = "import signal\nwhile True: signal.pause()"


def program(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


def test_address_comes_from_the_log_and_sigterm_ends_it(log: Path) -> None:
    code = f"import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n{READY}\n{FOREVER}"
    with ServerProcess(program(code), log) as server:
        assert server.address() == "127.0.0.1:1234"
        server.stop()
    assert '"ready"' in log.read_text()


def test_one_that_ends_before_it_is_ready_is_told_with_its_last_words(log: Path) -> None:
    code = """print('{"event": "cannot serve", "level": "error", "reason": "no models"}\\nbye'); exit(3)"""
    with ServerProcess(program(code), log) as server, pytest.raises(InternalError) as caught:
        server.address()
    assert "exit code 3 before it was ready" in caught.value.message
    assert "error   cannot serve reason=no models\n  bye" in caught.value.message
    assert str(log) in caught.value.message


def test_one_that_dies_later_is_told_with_the_signal(log: Path) -> None:
    code = f"import os, signal\n{READY}\nos.kill(os.getpid(), signal.SIGKILL)"
    with ServerProcess(program(code), log) as server:
        server.address()
        death = server.death()
    assert death is not None
    assert "ended by SIGKILL" in death


def test_one_that_lives_is_not_called_dead(log: Path) -> None:
    with ServerProcess(program(f"{READY}\n{FOREVER}"), log) as server:
        server.address()
        assert server.death() is None


def test_one_that_is_never_ready_is_given_up_and_ended(log: Path) -> None:
    late = pytest.raises(DeadlineExceededError, match=r"not ready after 0.1 s\n.*\n  \(it logged nothing\)")
    with ServerProcess(program(FOREVER), log) as server, late:
        server.address(0.1)
    assert server._process.poll() is not None


def test_another_exit_code_than_0_is_an_error(log: Path) -> None:
    code = f"import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n{READY}\n{FOREVER}"
    with ServerProcess(program(code), log) as server:
        server.address()
        with pytest.raises(InternalError, match="exit code 7 after SIGTERM; 0 was due"):
            server.stop()


def test_one_that_ignores_sigterm_is_killed(log: Path) -> None:
    """And the error of whatever failed is what the user gets, not the trouble of cleaning up."""
    code = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{READY}\n{FOREVER}"
    server = ServerProcess(program(code), log, stop_limit_s=0.1)

    def interrupted() -> None:
        with server:
            server.address()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert server._process.returncode == -signal.SIGKILL


def test_settings_of_another_server_do_not_reach_it(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those that fit the machine do."""
    monkeypatch.setenv("NAIAD_MAX_IMAGE_BYTES", "10")
    monkeypatch.setenv("NAIAD_CPU_THREADS", "2")
    code = f"import os\nprint(sorted(name for name in os.environ if name.startswith('NAIAD_')))\n{READY}"
    with ServerProcess(program(code), log) as server:
        server.address()
        assert server.death() is not None
    assert log.read_text().splitlines()[0] == "['NAIAD_CPU_THREADS']"


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels have no such wish")
def test_it_does_not_outlive_a_demo_that_is_killed_outright() -> None:
    """The grandchild holds the other end of a pipe, which ends only when it does."""
    child = """print("up", flush=True)\nimport signal\nwhile True: signal.pause()"""
    parent = f"""
import subprocess, sys
from naiad.demo.leash import leashed
subprocess.Popen(leashed([sys.executable, "-c", {child!r}]), start_new_session=True).wait()
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        assert demo.stdout.readline() == "up\n"
        demo.kill()
        assert demo.stdout.read() == ""
