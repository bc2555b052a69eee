"""What is done to models: one thing at a time to one model, and on behalf of clients only so much at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from naiad.core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

MAX_WORKS = 256
"""Loads and unloads of clients that may be at work or wait; each holds the files of its request."""


class ModelWorks:
    """Owns each model's lock and the tasks of clients' loads and unloads. Used on the event loop's thread."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    def __repr__(self) -> str:
        return f"<ModelWorks tasks={len(self._tasks)} locks={len(self._locks)}>"

    @property
    def stopping(self) -> bool:
        """Whether nothing more is begun."""
        return self._stopping

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping = True

    async def settle(self) -> None:
        """Wait for what has begun; giving up interrupts nothing, as a session being made cannot be."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def alone(self, name: str) -> asyncio.Lock:
        """The lock of one model. It lives as long as someone holds or awaits it: names come from callers."""
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = asyncio.Lock()
        return lock

    async def run(self, name: str, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Do it when nothing else is done to the model; once begun, it goes on if the caller leaves.

        Raises:
            UnavailableError: too much waits, or the server stops.
        """
        if len(self._tasks) >= MAX_WORKS:
            raise UnavailableError(
                f"{len(self._tasks)} loads and unloads are at work or wait, {MAX_WORKS} may: try again"
            )
        begun = asyncio.Event()
        task = asyncio.create_task(self._run_alone(name, work, begun), name=f"control {name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            # What waits holds the files of its request: nobody may pile them up and leave.
            if not begun.is_set():
                task.cancel()
            raise

    async def _run_alone(
        self, name: str, work: Callable[[], Coroutine[None, None, None]], begun: asyncio.Event
    ) -> None:
        async with self.alone(name):
            if self._stopping:
                raise UnavailableError("the server stops")
            begun.set()
            await work()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited for it may have left
