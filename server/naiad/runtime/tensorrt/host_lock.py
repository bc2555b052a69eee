"""One process of a host at a time: a file lock that ends with its holder, waited for within a limit."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from naiad.core.errors import CancelledError, UnavailableError

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from pathlib import Path

_POLL_S = 0.05
_MAX_PID_BYTES = 32


@contextmanager
def host_lock(path: Path, *, timeout_s: float, cancelled: threading.Event) -> Iterator[None]:
    """Hold the lock file at `path`, which says whose it is.

    Args:
        path: the file; it is made if it is not there, and stays.
        timeout_s: how long to wait for another holder; 0 tries once.
        cancelled: gives up when it is set.

    Raises:
        UnavailableError: the other holder kept it for longer; names its process.
        CancelledError: `cancelled` was set first.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnavailableError(f"the lock '{path}' cannot be opened: {error.strerror}") from error
    try:
        _take(handle, path, time.monotonic() + timeout_s, timeout_s, cancelled)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)  # which gives the lock back


def _take(handle: int, path: Path, deadline: float, timeout_s: float, cancelled: threading.Event) -> None:
    while not _try(handle):
        if time.monotonic() >= deadline:
            pid = os.pread(handle, _MAX_PID_BYTES, 0).decode("ascii", "replace").strip() or "unknown"
            raise UnavailableError(
                f"the lock '{path}' is held by process {pid}, waited {timeout_s:g} s for it"
            )
        if cancelled.wait(_POLL_S):
            raise CancelledError(f"gave up waiting for the lock '{path}'")


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
