"""Lets one test drive the synchronous and the asyncio client."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad_client import Client, FrameResult, aio


async def call(client: Client | aio.Client, method: str, *args: Any, **kwargs: Any) -> Any:
    """The result of a method, awaited if need be."""
    result = getattr(client, method)(*args, **kwargs)
    return await result if inspect.isawaitable(result) else result


async def either(method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a method of either kind returns; a synchronous one is called in a thread, so it may block."""
    if inspect.iscoroutinefunction(method):
        return await method(*args, **kwargs)
    return await asyncio.to_thread(method, *args, **kwargs)


async def take(stream: Any, count: int | None = None) -> list[FrameResult[Any]]:
    """The first `count` results of a stream (all if None), which is then closed."""
    results: list[FrameResult[Any]] = []
    if hasattr(stream, "__aiter__"):
        async for result in stream:
            results.append(result)
            if len(results) == count:
                break
        await stream.aclose()
        return results
    for result in stream:
        results.append(result)
        if len(results) == count:
            break
    stream.close()
    return results
