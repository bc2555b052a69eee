"""`naiad serve` as a child process on a free port of loopback, its log kept, never outliving its owner."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NoReturn, Self

from naiad.core.errors import DeadlineExceededError, InternalError
from naiad.demo.leash import leashed

if TYPE_CHECKING:
    from pathlib import Path

START_LIMIT_S = 120.0
STOP_LIMIT_S = 20.0
_DEATH_LIMIT_S = 1.0
"""How long a process may take to be gone after its connections broke."""
_TAIL_LINES = 12
_KEPT_SETTINGS = ("NAIAD_CPU_THREADS", "NAIAD_DECODE_THREADS")
"""Settings that fit the machine; any other would make it a demo of something else."""


def serve_command(repository: Path) -> list[str]:
    """The command that serves `repository` on a free port of loopback and logs JSON."""
    command = [sys.executable, "-m", "naiad", "serve", f"--model-repository={repository}"]
    return [
        *command,
        "--grpc-address=127.0.0.1",
        "--grpc-port=0",
        "--allow-http=false",
        "--allow-metrics=false",
        "--log-format=json",
    ]


class ServerProcess:
    """A server as a child process; entering starts it, leaving ends it, whatever happened in between.

    Args:
        command: the program, by path, and its arguments; it logs JSON lines as `naiad serve` does.
        log_path: where its log is written, over what is there.
        stop_limit_s: how long it may take to end after SIGTERM; then it is killed.
    """

    def __init__(self, command: list[str], log_path: Path, stop_limit_s: float = STOP_LIMIT_S) -> None:
        self._stop_limit_s = stop_limit_s
        self._command = command
        self._log_path = log_path
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._addresses: SimpleQueue[str | None] = SimpleQueue()

    def __enter__(self) -> Self:
        kept = {name: value for name, value in os.environ.items() if _passes(name)}
        # A session of its own: Ctrl-C reaches the demo alone, which then stops the server in good order.
        self._process = subprocess.Popen(  # noqa: S603  # the command is the demo's own
            leashed(self._command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=kept,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="server log", daemon=True)
        self._reader.start()
        self._on_interrupt = signal.signal(signal.SIGINT, self._leave)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._process.poll() is None:
                self._process.terminate()
                self._process.wait(self._stop_limit_s)
        except subprocess.TimeoutExpired:
            pass  # it is killed below; the error that led here says more
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join()
            signal.signal(signal.SIGINT, self._on_interrupt)

    def _leave(self, *_: object) -> NoReturn:
        """Ctrl-C: end the server in good order, then this process, from within the signal's handler.

        A KeyboardInterrupt can get lost in a library's callback, and then nothing would end at all.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Not through Popen: the interrupted code may hold its lock.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGTERM)
            ended = select.poll()
            ended.register(os.pidfd_open(self._process.pid), select.POLLIN)
            if not ended.poll(self._stop_limit_s * 1_000):
                os.kill(self._process.pid, signal.SIGKILL)
        show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
        sys.stderr.write(f"{show_cursor}\nstopped by Ctrl-C, and the server with it\n")
        sys.stderr.flush()
        os._exit(128 + signal.SIGINT)

    def address(self, timeout_s: float = START_LIMIT_S) -> str:
        """Where it listens, once every model is loaded.

        Raises:
            InternalError: it ended first.
            DeadlineExceededError: it was not ready in time.
        """
        try:
            address = self._addresses.get(timeout=timeout_s)
        except Empty:
            raise DeadlineExceededError(
                f"the server was not ready after {timeout_s:g} s\n{self.log_tail()}"
            ) from None
        if address is None:
            raise InternalError(f"the server {self._ending()} before it was ready\n{self.log_tail()}")
        return address

    def death(self) -> str | None:
        """How it ended and the last lines of its log; None if it runs. For use after a call to it failed."""
        try:
            self._process.wait(_DEATH_LIMIT_S)
        except subprocess.TimeoutExpired:
            return None
        return f"the server {self._ending()}\n{self.log_tail()}"

    def stop(self) -> None:
        """End it by SIGTERM, as an operator would.

        Raises:
            DeadlineExceededError: it did not end in time.
            InternalError: its exit code is not 0.
        """
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(self._stop_limit_s)
        except subprocess.TimeoutExpired:
            raise DeadlineExceededError(
                f"the server did not end within {self._stop_limit_s:g} s of SIGTERM\n{self.log_tail()}"
            ) from None
        if self._process.returncode != 0:
            raise InternalError(f"the server {self._ending()} after SIGTERM; 0 was due\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The last lines of its log, and where the whole of it is."""
        if self._process.poll() is not None:
            self._reader.join()  # what it said last is what matters
        lines = "\n".join(f"  {line}" for line in list(self._tail)) or "  (it logged nothing)"
        return f"the last lines of its log ({self._log_path}):\n{lines}"

    def _ending(self) -> str:
        code = self._process.wait()
        if code >= 0:
            return f"ended with exit code {code}"
        return f"was ended by {signal.Signals(-code).name}"

    def _read(self) -> None:
        """Keep the log until the process ends; runs in the reader thread."""
        assert self._process.stdout is not None
        try:
            with self._log_path.open("w", encoding="utf-8") as log, self._process.stdout as lines:
                for line in lines:
                    log.write(line)
                    log.flush()
                    event = _event(line)
                    self._tail.append(_readable(event) if event else line.rstrip())
                    if event.get("event") in ("ready", "serving") and "grpc" in event:
                        self._addresses.put(event["grpc"])
        finally:
            self._addresses.put(None)


def _passes(name: str) -> bool:
    """Whether the server inherits this environment variable."""
    return not name.startswith("NAIAD_") or name in _KEPT_SETTINGS


def _event(line: str) -> dict[str, Any]:
    """The JSON object of a log line; empty for a line that is none."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _readable(event: dict[str, Any]) -> str:
    """A log event on one line, without its time."""
    rest = {name: value for name, value in event.items() if name not in {"event", "level", "timestamp"}}
    return " ".join(
        [
            f"{event.get('level', ''):7}",
            str(event.get("event", "")),
            *(f"{name}={value}" for name, value in rest.items()),
        ]
    )
