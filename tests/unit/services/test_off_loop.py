"""A thread that uses what its caller holds is waited for, also by a caller that was cancelled."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from naiad.core.errors import InternalError
from naiad.services.off_loop import off_loop


async def test_the_result_and_the_error_of_the_work_are_the_callers() -> None:
    assert await off_loop(lambda: 7) == 7

    def fail() -> None:
        raise InternalError("broken")

    with pytest.raises(InternalError, match="broken"):
        await off_loop(fail)


async def test_a_cancelled_caller_leaves_when_the_thread_is_done_and_not_before() -> None:
    began, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began.set()
        go_on.wait(20)
        ended.set()

    caller = asyncio.create_task(off_loop(work))
    await asyncio.to_thread(began.wait, 10)
    for _ in range(2):  # however often it is asked to
        caller.cancel()
        await asyncio.sleep(0)
        assert not caller.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()


async def test_a_cancelled_caller_is_not_told_of_an_error_and_it_is_not_reported_as_forgotten() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["message"]))
    began, go_on = threading.Event(), threading.Event()

    def fail() -> None:
        began.set()
        go_on.wait(20)
        raise InternalError("broken")

    caller = asyncio.create_task(off_loop(fail))
    await asyncio.to_thread(began.wait, 10)
    caller.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert reported == []


async def test_work_that_has_not_begun_when_its_caller_is_cancelled_is_not_done() -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    go_on, done = threading.Event(), list[int]()
    first = asyncio.create_task(off_loop(lambda: go_on.wait(20)))
    await asyncio.sleep(0)
    second = asyncio.create_task(off_loop(lambda: done.append(1)))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await first
    with pytest.raises(asyncio.CancelledError):
        await second
    assert done == []
