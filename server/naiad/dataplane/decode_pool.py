"""The threads that turn bytes into pixels and raw outputs into faces: bounded in number and in backlog."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from naiad.core.errors import ResourceExhaustedError

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


class DecodePool:
    """A thread pool with a bounded backlog. `run` belongs to the event loop's thread."""

    def __init__(self, threads: int, max_pending: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="naiad-decode")
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
        future = asyncio.get_running_loop().run_in_executor(self._executor, work)
        self._pending += 1
        future.add_done_callback(self._done)
        return await future

    def close(self) -> None:
        """Let running work end and join the threads."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _done(self, _: asyncio.Future[Result]) -> None:
        self._pending -= 1
