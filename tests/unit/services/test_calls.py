"""A drain waits for what was accepted before it, not for those who come later."""

from __future__ import annotations

import asyncio

from naiad.services.calls import QUIET_LIMIT_S, Calls


async def test_calls_that_came_before_the_drain_are_waited_for() -> None:
    calls = Calls()
    first, second = calls.begin(), calls.begin()
    calls.begin_drain()
    waiting = asyncio.ensure_future(calls.answered(10))
    calls.end(first)
    await asyncio.sleep(0)
    assert not waiting.done()
    calls.end(second)
    assert await waiting
    assert calls.accepted == 0


async def test_calls_that_come_later_are_not() -> None:
    calls = Calls()
    calls.begin_drain()
    late = calls.begin()
    assert late is False
    assert await calls.answered(0.01)
    calls.end(late)
    assert calls.accepted == 0


async def test_what_is_not_answered_in_time_is_told() -> None:
    calls = Calls()
    calls.begin()
    calls.begin_drain()
    assert not await calls.answered(0.01)


async def test_callers_that_never_stop_hold_up_the_quiet_only_so_long() -> None:
    calls = Calls()
    calls.begin_drain()

    async def keep_calling() -> None:
        while True:
            calls.end(calls.begin())
            await asyncio.sleep(0.01)

    caller = asyncio.ensure_future(keep_calling())
    await asyncio.wait_for(calls.quiet(), QUIET_LIMIT_S + 20)
    caller.cancel()
