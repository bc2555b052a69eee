"""The one thread that runs a session on a GPU: a CUDA graph belongs to the thread that captured it."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

from naiad.core.errors import UnavailableError
from naiad.runtime.thread_names import name_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.core.tensors import Array
    from naiad.runtime.cuda.driver import Driver

    Work = Callable[[], dict[str, Array]]


class ComputeThread:
    """Runs work in the order in which it comes, one piece at a time. Its owner closes it."""

    def __init__(self, name: str, driver: Driver | None) -> None:
        """Start the thread.

        Args:
            name: the instance's.
            driver: the GPU's; None where the engine alone knows it.
        """
        self._driver = driver
        self._title = f"gpu {name}"
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"naiad-gpu-{name}", daemon=True)
        self._is_closed = False
        self._thread.start()

    def run(self, work: Work) -> dict[str, Array]:
        """Wait for `work`, and for all that came before it; raises what it raises.

        Raises:
            UnavailableError: the thread has been closed.
        """
        if self._is_closed:
            raise UnavailableError("the session is closed")
        job = _Job(work)
        self._jobs.put(job)
        return job.outcome()

    def close(self) -> None:
        """Let what was handed over end, and join the thread. Safe to call twice."""
        self._is_closed = True
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join()
        while not self._jobs.empty():  # handed over between the two lines above
            if (job := self._jobs.get_nowait()) is not None:
                job.fail(UnavailableError("the session is closed"))

    def _work(self) -> None:
        name_thread(self._title)
        entered: BaseException | None = None
        try:
            if self._driver is not None:
                self._driver.enter()
        except BaseException as error:  # noqa: BLE001  # whoever waits for work must hear of it
            entered = error
        while (job := self._jobs.get()) is not None:
            if entered is not None:
                job.fail(entered)
            else:
                job.do()
            del job  # what it held must not live until the next one comes


class _Job:
    """One piece of work; whoever handed it over waits for its outcome."""

    __slots__ = ("_outcome", "_work")

    def __init__(self, work: Work) -> None:
        self._work = work
        self._outcome: SimpleQueue[dict[str, Array] | BaseException] = SimpleQueue()

    def do(self) -> None:
        try:
            self._outcome.put(self._work())
        except BaseException as error:  # noqa: BLE001  # it belongs to whoever waits
            self._outcome.put(error)

    def fail(self, error: BaseException) -> None:
        self._outcome.put(error)

    def outcome(self) -> dict[str, Array]:
        outcome = self._outcome.get()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome
