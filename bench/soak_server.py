"""The server of a soak, as a process of its own, and what is read of it: memory, threads, open files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from bench.processes import ROOT
from bench.soak_probe import TRACEMALLOC

from naiad.core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

_STOP_LIMIT_S = 60
_KIB = 1024


def read_process(pid: int) -> dict[str, int]:
    """Resident and proportional bytes (`rss`, `pss`, `anonymous`), threads and open files of a process."""
    sizes = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]:
        name, _, size = line.partition(":")
        sizes[name] = int(size.split()[0]) * _KIB
    return {
        "rss": sizes["Rss"],
        "pss": sizes["Pss"],
        "anonymous": sizes["Anonymous"],
        "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
        "fds": len(list(Path(f"/proc/{pid}/fd").iterdir())),
    }


class SoakServer:
    """`naiad serve` in explicit mode on free ports of loopback, with a probe. A context manager.

    Its log goes to a file; `last_words` are the log's last lines.
    """

    def __init__(self, repository: Path, log_file: Path, *flags: str, trace_python: bool = False) -> None:
        command = [sys.executable, "-m", "bench.soak_probe", *([TRACEMALLOC] if trace_python else [])]
        command += [f"--model-repository={repository}", "--log-format=json", "--model-control-mode=explicit"]
        command += [f"--{name}-address=127.0.0.1" for name in ("grpc", "http", "metrics")]
        command += [f"--{name}-port=0" for name in ("grpc", "http", "metrics")]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("NAIAD_")}
        self._log_file = log_file
        self._process = subprocess.Popen(
            [*command, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        self.last_words: deque[str] = deque(maxlen=5)
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Self:
        lines = self._copied_log()
        for line in lines:
            event = json.loads(line) if line.startswith("{") else {}
            if event.get("event") in ("ready", "serving"):
                self.grpc: str = event["grpc"]
                self.http: str = event["http"]
                # From now on only so that the pipe never fills.
                self._reader = threading.Thread(target=lambda: deque(lines, maxlen=0))
                self._reader.start()
                return self
        raise UnavailableError(
            f"the server did not start, exit code {self._process.wait()}: see {self._log_file}"
        )

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        if self._reader is not None:
            self._reader.join()

    def look(self, **question: bool) -> dict[str, Any]:
        """What the system and the process itself say of it now; `objects` and `growth` ask for more.

        Raises:
            UnavailableError: the server has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.poll() is None:
            found = read_process(self._process.pid)
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            if line := self._process.stdout.readline():
                answered: dict[str, Any] = json.loads(line)
                return found | answered
        raise UnavailableError(
            f"the server ended by itself, exit code {self._process.wait()}: {' '.join(self.last_words)}"
        )

    def _copied_log(self) -> Iterator[str]:
        assert self._process.stderr is not None
        with self._process.stderr as source, self._log_file.open("w", encoding="utf-8") as copy:
            for line in source:
                copy.write(line)
                copy.flush()
                self.last_words.append(line.strip())
                yield line
