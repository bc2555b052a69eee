"""The server's event loop asks for news seldom enough, and often enough."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import closing

from naiad.runtime.event_loop import MOST_PASSES, SparingSelector, new_event_loop


class Counting(SparingSelector):
    """Counts how often the system is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def select(self, timeout: float | None = None) -> list[object]:  # type: ignore[override]
        before = self._passes
        news = super().select(timeout)
        self.asked += self._passes <= before
        return list(news)


def test_rounds_of_callbacks_that_follow_each_other_share_a_question() -> None:
    selector = Counting()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(asyncio.sleep(0))
        selector.asked = 0
        rounds = 10 * (MOST_PASSES + 1)

        async def work() -> None:
            for _ in range(rounds):
                await asyncio.sleep(0)

        runner.run(work())
    assert 8 <= selector.asked <= rounds // MOST_PASSES + 5


def test_what_comes_is_heard_while_callbacks_never_end() -> None:
    """A loop that is always busy must read its sockets too."""

    async def read_beside_work() -> bytes:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with closing(ours), closing(theirs):
            ours.setblocking(False)
            reading = asyncio.create_task(loop.sock_recv(ours, 16))
            await asyncio.sleep(0)
            theirs.send(b"news")
            for _ in range(4 * MOST_PASSES):
                await asyncio.sleep(0)
            assert reading.done()
            return reading.result()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(read_beside_work()) == b"news"


def test_threads_and_timers_wake_it_as_ever() -> None:
    async def wait() -> float:
        loop = asyncio.get_running_loop()
        woken = loop.create_future()
        threading.Timer(0.05, loop.call_soon_threadsafe, (woken.set_result, None)).start()
        start = time.monotonic()
        await woken
        await asyncio.sleep(0.05)
        return time.monotonic() - start

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert 0.09 < runner.run(wait()) < 5
