"""The processes of a run: the server that is measured, and the workers that measure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from naiad.core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
_STOP_LIMIT_S = 60


class Server:
    """`naiad serve` with its default settings but for `arguments`, on a free port of loopback.

    A context manager; leaving it stops the process. Its log goes to a file.
    """

    def __init__(self, repository: Path, log_file: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "naiad", "serve", f"--model-repository={repository}"]
        command += ["--grpc-address=127.0.0.1", "--grpc-port=0", "--log-format=json", *arguments]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NAIAD_")}
        self._log_file = log_file
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        lines = self._copied_log()
        for line in lines:
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") in ("ready", "serving"):
                self.address: str = event["grpc"]
                self.metrics: str = event.get("metrics", "")
                # From now on only so that the pipe never fills.
                self._reader = threading.Thread(target=lambda: list(lines))
                self._reader.start()
                return self
        raise UnavailableError(
            f"the server did not start, exit code {self._process.wait()}: see {self._log_file}"
        )

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._reader is not None:
            self._reader.join()

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def ended(self) -> str:
        """Why the server is not there any more; nothing while it runs."""
        code = self._process.poll()
        return "" if code is None else f"ended with exit code {code}: see {self._log_file.name}"

    def _copied_log(self) -> Iterator[str]:
        assert self._process.stderr is not None
        with self._process.stderr as source, self._log_file.open("w") as copy:
            for line in source:
                copy.write(line)
                copy.flush()
                yield line


class Worker:
    """A module of this folder in a process of its own, that answers each JSON line with one.

    It sleeps between questions, so several can stay warm beside each other. A context manager.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def ask(self, **question: Any) -> dict[str, Any]:
        """Its answer.

        Raises:
            UnavailableError: the process ended instead; its traceback is on standard error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            about = question.get("case", {}).get("name", "")
            raise UnavailableError(f"{self._module} ended while it measured {about}".rstrip())
        answered: dict[str, Any] = json.loads(answer)
        return answered


def questions() -> Iterator[dict[str, Any]]:
    """What a worker is asked, until its standard input ends."""
    return (json.loads(line) for line in sys.stdin)


def answer(values: dict[str, Any]) -> None:
    """A worker's answer to the last question."""
    print(json.dumps(values), flush=True)
