"""Work in a thread, for what it holds: nobody may take that back while the thread uses it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


async def off_loop(work: Callable[[], Result]) -> Result:
    """Do `work` in a thread. A caller that is cancelled leaves when the thread is done with it, not before.

    `asyncio.to_thread` would leave at once, and what the caller then releases is still in use. Work that has
    not begun when its caller is cancelled is not done.

    Raises:
        asyncio.CancelledError: the caller was cancelled.
    """
    cancelled: asyncio.CancelledError | None = None

    def wanted() -> Result | None:
        return work() if cancelled is None else None

    working = asyncio.create_task(asyncio.to_thread(wanted), name="off the loop")
    while not working.done():
        try:
            await asyncio.wait((working,))
        except asyncio.CancelledError as request:
            cancelled = request
    error = working.exception()  # asked for also where nobody is left to be told
    if cancelled is not None:
        raise cancelled
    if error is not None:
        raise error
    return working.result()  # type: ignore[return-value]  # None only where the caller was cancelled
