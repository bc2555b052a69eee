"""The threads that turn bytes into pixels and raw outputs into faces: bounded in number and in backlog."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from naiad.core.errors import ResourceExhaustedError
from naiad.runtime.thread_names import name_thread

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


class DecodePool:
    """A thread pool with a bounded backlog. `run` belongs to the event loop's thread."""

    def __init__(self, threads: int, max_pending: int) -> None:
        self.threads = threads
        self._executor = ThreadPoolExecutor(threads, "naiad-decode", initializer=name_thread)
        self._max_pending = max_pending
        self._pending = 0

    def __repr__(self) -> str:
        return f"<DecodePool pending={self._pending}/{self._max_pending}>"

    async def run(self, work: Callable[[], Result]) -> Result:
        """Run `work` on one of the threads.

        Work that has begun runs to its end even if the caller is cancelled.

        Raises:
            ResourceExhaustedError: too much is waiting already.
        """
        if self._pending >= self._max_pending:
            raise ResourceExhaustedError(
                f"{self._pending} images wait for a decode thread, the limit is {self._max_pending} "
                "(--max-pending-images)"
            )
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._pending += 1
        self._executor.submit(self._work, loop, future, work)
        return await future

    def close(self) -> None:
        """Let running work end and join the threads."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _work(
        self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Result], work: Callable[[], Result]
    ) -> None:
        """Run on a pool thread; work whose caller has left before it began is skipped."""
        result: Result | None = None
        error: Exception | None = None
        if not future.cancelled():
            try:
                result = work()
            except Exception as raised:  # noqa: BLE001  # the caller must hear of it
                error = raised
        loop.call_soon_threadsafe(self._finish, future, result, error)

    def _finish(self, future: asyncio.Future[Result], result: Result | None, error: Exception | None) -> None:
        # Only now has the thread let go of the picture, so only now may the next one come.
        self._pending -= 1
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # Result may itself be None
