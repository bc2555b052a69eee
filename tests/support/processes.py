"""The `naiad` command as a process of its own, as an operator runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from queue import Queue
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import signal
    from pathlib import Path


def naiad_environment(**variables: str) -> dict[str, str]:
    """This process's environment without settings of a server, and with `variables`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NAIAD_")}
    # What is measured depends on how busy the machine is; tests of that switch it on.
    return kept | {"NAIAD_MEASURE_LAYOUT": "false"} | variables


class ServerProcess:
    """`naiad serve` on a free port of loopback, its JSON log read as it comes.

    A context manager: leaving it kills the process if it still runs.
    """

    def __init__(self, repository: Path, *flags: str, module: str = "naiad", **environment: str) -> None:
        command = [sys.executable, "-m", module, "serve", f"--model-repository={repository}"]
        command += ["--grpc-address=127.0.0.1", "--http-address=127.0.0.1", "--log-format=json"]
        command += ["--grpc-port=0", "--http-port=0", "--metrics-port=0", *flags]
        reading, writing = os.pipe()
        self.process = subprocess.Popen(command, stderr=writing, env=naiad_environment(**environment))
        os.close(writing)
        self._pipe = os.fdopen(reading)
        self.log: list[dict[str, Any]] = []
        self._lines: Queue[dict[str, Any] | None] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        self._pipe.close()

    def wait_for(self, event: str) -> dict[str, Any]:
        """The next log line with that event; AssertionError with the whole log if the process ends first."""
        while (line := self._lines.get(timeout=60)) is not None:
            # A server some of whose models failed says "serving" where another says "ready".
            if line["event"] == event or (event == "ready" and line["event"] == "serving"):
                return line
        raise AssertionError(f"ended without {event!r}: {self.log}")

    def address(self) -> str:
        """Where it listens, once it does."""
        address: str = self.wait_for("ready")["grpc"]
        return address

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ends_within(self, seconds: float) -> bool:
        """Whether it has ended by then."""
        try:
            self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def wait(self) -> int:
        """Its exit code."""
        return self.process.wait(timeout=60)

    def stop_reading(self) -> None:
        """Close the other end of its standard error."""
        # The descriptor itself: closing the file object would wait for the thread that reads it.
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, self._pipe.fileno())
        os.close(null)

    def _read(self) -> None:
        for text in self._pipe:
            line = json.loads(text) if text.startswith("{") else {"event": text.rstrip()}
            self.log.append(line)
            self._lines.put(line)
        self._lines.put(None)
