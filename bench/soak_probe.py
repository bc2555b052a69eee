"""`naiad serve` that also answers on its standard input what only the process itself knows of its memory.

`python -m bench.soak_probe FLAGS` is `naiad serve FLAGS`. Each JSON line on its standard input is answered by
one.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
import tracemalloc
from collections import Counter
from typing import Any

from bench.processes import answer, questions

from naiad.__main__ import main
from naiad.runtime.allocator import keep_memory_warm

TRACEMALLOC = "--tracemalloc"
_FRAMES = 8
_SHOWN = 25


class _Mallinfo2(ctypes.Structure):
    """glibc's `struct mallinfo2`; all counts of bytes but the second, third and fourth."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def heap() -> dict[str, int]:
    """Bytes of glibc's heaps in use, free and mapped one by one; empty where there is no `mallinfo2`.

    The engine's own memory is in them: its arenas take theirs from `malloc`.
    """
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return {}
    mallinfo2.restype = _Mallinfo2
    info = mallinfo2()
    return {
        "heap_used": info.uordblks + info.hblkhd,
        "heap_free": info.fordblks,
        "heap_mapped": info.hblkhd,
    }


def look(*, objects: bool = False) -> dict[str, Any]:
    """The heap and Python's blocks; with `objects` how many there are of each type, after a collection."""
    found: dict[str, Any] = heap() | {"python_blocks": sys.getallocatedblocks()}
    if objects:
        gc.collect()
        living = gc.get_objects()
        found["objects"] = dict(
            Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in living)
        )
    return found


class Growth:
    """Where Python's memory has grown since this was last asked."""

    def __init__(self) -> None:
        self._before: tracemalloc.Snapshot | None = None

    def lines(self) -> list[str]:
        """The lines with the most, or none the first time and without tracemalloc."""
        if not tracemalloc.is_tracing():
            return []
        gc.collect()
        now = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, tracemalloc.__file__)])
        grown = now.compare_to(self._before, "traceback") if self._before else []
        self._before = now
        return [
            f"{each.size_diff:+,} B in {each.count_diff:+,} blocks: "
            + " < ".join(map(str, reversed(each.traceback)))
            for each in grown[:_SHOWN]
        ]


def _serve_questions() -> None:
    growth = Growth()
    for question in questions():
        found = look(objects=question.get("objects", False))
        if question.get("growth"):
            found["growth"] = growth.lines()
        answer(found)
    # Who asked has gone, perhaps killed: nobody else would end this process.
    os.kill(os.getpid(), signal.SIGTERM)


def _main() -> None:
    keep_memory_warm()  # as `naiad serve` does first of all, and the thread below is one more than it has
    if TRACEMALLOC in sys.argv:
        sys.argv.remove(TRACEMALLOC)
        tracemalloc.start(_FRAMES)
    sys.argv[:] = ["naiad", "serve", *sys.argv[1:]]
    threading.Thread(target=_serve_questions, name="soak-probe", daemon=True).start()
    main()


if __name__ == "__main__":
    _main()
