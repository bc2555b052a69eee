"""The one thread that writes traces, so that no disk and no collector ever holds up the event loop."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_WAITING = 1_024
"""Traces that may wait to be written before more are dropped."""

log = structlog.get_logger(__name__)


class TraceWriter:
    """A thread, started by the first piece of work, that does its work in order.

    `submit` and `close` belong to the event loop's thread. `dropped` traces found too many waiting, `failed`
    ones could not be written; both are logged when first it happens, and their numbers at the end.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self.failed = 0
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, work: Callable[[], None], *, droppable: bool = False) -> None:
        """Have the work done after what was submitted before; droppable work only if there is room."""
        if self._closed:
            self.dropped += droppable
            return
        if droppable and self._work.qsize() >= MAX_WAITING:
            self.dropped += 1
            if self.dropped == 1:
                log.warning(
                    "traces are dropped", waiting=self._work.qsize(), limit=MAX_WAITING, who="operator"
                )
            return
        self._work.put(work)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="naiad-traces", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Do what was submitted, end the thread and wait for it. Safe to call twice."""
        self._closed = True
        if self._thread is not None:
            self._work.put(None)
            self._thread.join()
            self._thread = None
        if self.dropped or self.failed:
            log.warning("traces were lost", dropped=self.dropped, failed=self.failed, who="operator")

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except Exception as error:  # noqa: BLE001  # a trace that cannot be written must not end the others
                self.failed += 1
                if self.failed == 1:
                    log.error("a trace could not be written", reason=str(error), who="operator")
            del work
