"""The one thread of the process that builds engines, one after the other, behind the traffic."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from queue import Empty, PriorityQueue
from typing import TYPE_CHECKING, NamedTuple

from naiad.runtime.thread_names import name_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.runtime.session import Session
    from naiad.runtime.tensorrt.build import EngineBuild

THREAD_NAME = "naiad-engine-builder"
_NICE = 10
"""Below the threads that serve: building burns a CPU for minutes."""

_STOP, _SOON, _LATER = range(3)


class _Job(NamedTuple):
    """What to do, by how soon and in the order in which it came."""

    priority: int
    number: int
    work: Callable[[], None]
    build: EngineBuild | None


class EngineBuilder:
    """Runs builds and closes sessions that were swapped out. The thread starts with the first of them."""

    def __init__(self) -> None:
        self._jobs: PriorityQueue[_Job] = PriorityQueue()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._building: EngineBuild | None = None
        self._is_closed = False

    def submit(self, build: EngineBuild, *, soon: bool = False) -> None:
        """Run a build when its turn comes: before those that are not to be done `soon`.

        It is cancelled at once if the builder is closed.
        """
        if not self._put(_SOON if soon else _LATER, build.run, build):
            build.cancel()

    def dispose(self, session: Session) -> None:
        """Close a session without its caller waiting for it."""
        if not self._put(_SOON, session.close, None):
            session.close()

    def stop(self) -> None:
        """Begin no further build, and cancel all: whoever waits for one goes on. Safe to call twice."""
        with self._lock:
            self._is_closed = True
            building = self._building
        if building is not None:
            building.cancel()
        # Whoever's sessions these were must not wait for them for ever.
        for job in self._left():
            if job.build is not None:
                job.build.cancel()
            else:
                job.work()

    def close(self, timeout_s: float) -> bool:
        """Stop, and join the thread.

        Args:
            timeout_s: how long the build at work may go on; it cannot be interrupted.

        Returns:
            Whether the thread has ended; False leaves it to the end of the process.
        """
        self.stop()
        if self._thread is None:
            return True
        self._jobs.put(_Job(_STOP, next(self._numbers), lambda: None, None))
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _put(self, priority: int, work: Callable[[], None], build: EngineBuild | None) -> bool:
        with self._lock:
            if self._is_closed:
                return False
            self._jobs.put(_Job(priority, next(self._numbers), work, build))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=THREAD_NAME, daemon=True)
                self._thread.start()
            return True

    def _left(self) -> list[_Job]:
        left = []
        with contextlib.suppress(Empty):
            while True:
                left.append(self._jobs.get_nowait())
        return [job for job in left if job.priority != _STOP]

    def _work(self) -> None:
        name_thread()
        _be_nice()
        while (job := self._jobs.get()).priority != _STOP:
            with self._lock:
                self._building = job.build
                is_closed = self._is_closed
            if is_closed and job.build is not None:
                job.build.cancel()  # taken from the queue before `stop` could see it there
            job.work()
            with self._lock:
                self._building = None
            del job  # what it held must not live until the next one comes


def _be_nice() -> None:
    """Give way to the threads that serve, where the system knows a priority of one thread's own."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
