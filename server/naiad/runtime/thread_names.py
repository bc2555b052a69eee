"""Names threads for the system, so that `top -H` and `ps -T` say what each of them is for."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# A thread that is made has the name of the one that makes it, until it takes its own.
_COMM = Path("/proc/thread-self/comm")
_MOST = 15
_PREFIX = "naiad-"


def name_thread(name: str | None = None) -> None:
    """Tell the system what this thread is; by default the name that Python has for it.

    The system keeps 15 bytes: `naiad-` is left out, and of a long name the end stays, which tells instances
    apart. Nothing happens where there is no such file, as outside of Linux.
    """
    text = (name or threading.current_thread().name).removeprefix(_PREFIX)
    kind, space, rest = text.partition(" ")
    if space:
        text = f"{kind} {rest[len(kind) + 1 - _MOST :]}"
    with suppress(OSError):
        _COMM.write_bytes(text.encode("ascii", "replace")[:_MOST])


@contextmanager
def children_named(name: str) -> Iterator[None]:
    """Give threads that a library makes meanwhile, in this one's name, a name of their own."""
    try:
        before = _COMM.read_bytes().strip()
    except OSError:
        yield
        return
    name_thread(name)
    try:
        yield
    finally:
        with suppress(OSError):
            _COMM.write_bytes(before)
