"""Futures for decisions without a loop: nobody awaits them."""

from __future__ import annotations

import asyncio
from typing import Any

# Closed at once: a future only has to belong to one, and thousands of loops would take time and sockets.
_LOOP = asyncio.new_event_loop()
_LOOP.close()


def lone_future() -> asyncio.Future[Any]:
    """A future that nobody awaits."""
    return asyncio.Future(loop=_LOOP)
