"""A model instance: one thread that runs one session, fed and answered by the event loop."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

from naiad.runtime.session import InstanceSessions, TerminableSession
from naiad.runtime.thread_names import name_thread

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from naiad.runtime.session import Session

Result = TypeVar("Result")


class ModelInstance(Generic[Result]):
    """One thread and the session it runs.

    `submit`, `terminate` and `close` belong to the event loop's thread. `terminated` says that the work at
    hand, or the last one, was told to end. The owner keeps at most one piece of work on an
    instance, so `busy` tells whether it can take a batch. A finished piece of work wakes the loop once.
    The session is not the instance's to close: instances on the CPU share one.
    """

    def __init__(self, name: str, session: Session, loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self.busy = False
        self.terminated = False
        self._session = session.for_instance() if isinstance(session, InstanceSessions) else session
        self._loop = loop
        self._work: SimpleQueue[_Work[Result] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"naiad-{name}", daemon=True)
        self._thread.start()

    def submit(
        self,
        work: Callable[[Session], Result],
        done: Callable[[ModelInstance[Result], Result | BaseException], None],
    ) -> None:
        """Run `work` on the thread, then call `done(instance, result or exception)` on the loop."""
        self._rearm()
        self.busy = True
        self._work.put((work, done))

    def run_here(self, work: Callable[[Session], Result]) -> Result:
        """Run `work` on the calling thread; the instance must be idle."""
        self._rearm()
        return work(self._session)

    def _rearm(self) -> None:
        if self.terminated and isinstance(self._session, TerminableSession):
            # Here and not on the thread: a `terminate` that comes before the work has begun must hold.
            self._session.rearm()
        self.terminated = False

    def terminate(self) -> bool:
        """End the work at hand as soon as the engine can; it is done with CancelledError then.

        Returns:
            False if nothing runs, or the engine cannot end a run.
        """
        if not self.busy or not isinstance(self._session, TerminableSession):
            return False
        self.terminated = True
        self._session.terminate()
        return True

    def close(self) -> None:
        """Let the running work finish, end the thread and wait for it. Safe to call twice."""
        if self._thread.is_alive():
            self._work.put(None)
            self._thread.join()

    def __repr__(self) -> str:
        return f"<ModelInstance {self.name} {'busy' if self.busy else 'idle'}>"

    def _run(self) -> None:
        name_thread(f"run {self.name}")
        while (item := self._work.get()) is not None:
            work, done = item
            outcome: Result | BaseException
            try:
                outcome = work(self._session)
            except BaseException as error:  # noqa: BLE001  # the loop, which owns the callers, must hear of it
                outcome = error
            self._loop.call_soon_threadsafe(self._finish, done, outcome)
            # Whatever the work held (inputs, outputs) must not live until the next piece arrives.
            del item, work, done, outcome

    def _finish(
        self,
        done: Callable[[ModelInstance[Result], Result | BaseException], None],
        outcome: Result | BaseException,
    ) -> None:
        self.busy = False
        done(self, outcome)


_Work = tuple[
    "Callable[[Session], Result]", "Callable[[ModelInstance[Result], Result | BaseException], None]"
]
