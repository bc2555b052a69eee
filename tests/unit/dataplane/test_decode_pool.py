"""The decode pool refuses beyond its backlog and forgets what has ended."""

from __future__ import annotations

import asyncio
import threading

import pytest

from naiad.core.errors import ResourceExhaustedError
from naiad.dataplane.decode_pool import DecodePool


async def test_work_runs_on_other_threads_and_its_errors_come_back() -> None:
    pool = DecodePool(1, max_pending=1)
    try:
        assert await pool.run(threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await pool.run(lambda: 1 // 0)
        assert await pool.run(lambda: 7) == 7
    finally:
        pool.close()


async def test_beyond_the_backlog_work_is_refused_with_the_limit_and_the_flag() -> None:
    gate = threading.Event()
    pool = DecodePool(1, max_pending=2)
    try:
        accepted = [asyncio.ensure_future(pool.run(gate.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(
            ResourceExhaustedError, match=r"2 images wait .* limit is 2 \(--max-pending-images\)"
        ):
            await pool.run(gate.wait)
        gate.set()
        assert await asyncio.gather(*accepted) == [True, True]
        assert await pool.run(lambda: 1) == 1
    finally:
        gate.set()
        pool.close()
