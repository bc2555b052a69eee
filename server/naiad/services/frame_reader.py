"""The reading side of a stream of frames: message after message, until the client or the server ends it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from naiad.core.errors import UnavailableError
from naiad.services.calls import SHUTTING_DOWN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from naiad.dataplane.frames.ledger import FrameLedger
    from naiad.services.calls import Calls

WITHDRAWN = "the model version that the stream began with has been rolled back: open it anew"
"""Why a stream ends whose contract lets it come again; others go on with the version that answers then."""


class FrameReader:
    """Reads a stream's messages while its ledger may take one more. Used on the event loop's thread.

    Every task that it starts is its own: however `run` ends, they have ended before.
    """

    def __init__(
        self,
        requests: AsyncIterator[Any],
        ledger: FrameLedger[Any, Any],
        calls: Calls,
        *,
        admit: Callable[[Any], None],
    ) -> None:
        """Create a reader.

        Args:
            requests: the client's messages after the options.
            ledger: says when to read.
            calls: when the server drains, no further message is read.
            admit: takes each message, and writes it into the ledger.
        """
        self._requests = requests
        self._ledger = ledger
        self._calls = calls
        self._admit = admit
        self._withdrawn = asyncio.Event()
        self._readable = asyncio.Event()
        self._readable.set()

    def go_on(self) -> None:
        """Read further if the ledger may take one more again."""
        if not self._readable.is_set() and self._ledger.may_read:
            self._readable.set()

    def withdraw(self) -> None:
        """Read no further: the version that the stream began with is not to answer it any more."""
        self._withdrawn.set()

    async def run(self) -> None:
        """Read until the client ends the stream.

        Raises:
            UnavailableError: the server drains, or the version was withdrawn.
        """
        reading = asyncio.create_task(self._read(), name="stream read")
        drained = asyncio.create_task(self._calls.draining(), name="stream drain")
        withdrawn = asyncio.create_task(self._withdrawn.wait(), name="stream withdrawal")
        tasks = (reading, drained, withdrawn)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                raise UnavailableError(SHUTTING_DOWN if drained.done() else WITHDRAWN)
            reading.result()  # a stream that broke must not look like one that ended
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            while not self._ledger.may_read:
                self._readable.clear()
                await self._readable.wait()
            try:
                message = await anext(self._requests)
            except StopAsyncIteration:
                return
            self._admit(message)
            del message  # not for as long as the next one takes to come
