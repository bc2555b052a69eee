"""The process aside: `python -m naiad.lifecycle.experiments.aside.worker PARENT SOCKET ARENA ARENA_BYTES`.

Its parent starts it, in the scheduler's idle class. It answers one message after the other, and ends when its
parent does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from naiad.runtime.allocator import keep_memory_warm

if TYPE_CHECKING:
    from naiad.lifecycle.experiments.aside.wire import Message

_PR_SET_PDEATHSIG = 1
"""From Linux's prctl.h."""

_OOM_SCORE = Path("/proc/self/oom_score_adj")
_MOST_OOM_SCORE = "1000"


def main(arguments: list[str]) -> None:
    """Answer messages until the parent is gone."""
    parent, descriptor, arena, arena_bytes = map(int, arguments)
    if not _leash(parent):
        return
    # Before any thread exists.
    keep_memory_warm()
    with socket.socket(fileno=descriptor) as connection:
        _serve(connection, arena, arena_bytes)


def _serve(connection: socket.socket, arena: int, arena_bytes: int) -> None:
    # Only now: what it needs takes a second of CPU time to import.
    from naiad.lifecycle.experiments.aside.arena import ArenaView  # noqa: PLC0415
    from naiad.lifecycle.experiments.aside.wire import Receiver, send  # noqa: PLC0415
    from naiad.lifecycle.experiments.aside.workbench import Workbench  # noqa: PLC0415

    workbench = Workbench(ArenaView(arena, arena_bytes))
    receiver = Receiver(connection)
    send(connection, {"ready": os.getpid()})
    with suppress(EOFError, BrokenPipeError):
        while True:
            message: Message | None = receiver.receive()
            if message is not None:
                send(connection, workbench.answer(message))


def _leash(parent: int) -> bool:
    """End with the parent, before it, and for it; whether it is still there.

    What memory runs out for is this process first, and no signal that is meant for the server ends it.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        _OOM_SCORE.write_text(_MOST_OOM_SCORE)
    return os.getppid() == parent


if __name__ == "__main__":
    main(sys.argv[1:])
