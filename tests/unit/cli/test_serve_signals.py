"""The first signal drains; the second one ends the process, unless it is the first one sent twice."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from naiad.cli.serve import stop_signal

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture(autouse=True)
def ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The exit codes that the process would have ended with."""
    before = [signal.getsignal(number) for number in SIGNALS]
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    yield codes
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


async def send_both(same_signal_s: float) -> tuple[list[str], list[str]]:
    """Send SIGTERM and SIGINT at once; the events of the log, and whether files were discarded."""
    discarded: list[str] = []
    with capture_logs() as events:
        stop = stop_signal(lambda: discarded.append("files"), same_signal_s=same_signal_s)
        for number in SIGNALS:
            os.kill(os.getpid(), number)
        await stop.wait()
        while len(events) < len(SIGNALS):  # noqa: ASYNC110  # a log has no event to wait for
            await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    assert all(loop.remove_signal_handler(number) for number in SIGNALS)
    return [str(event["event"]) for event in events[:2]], discarded


async def test_a_signal_sent_to_the_process_and_to_its_group_is_one(ended: list[int]) -> None:
    events, discarded = await send_both(same_signal_s=60)
    assert events == ["signal received", "signal repeated"]
    assert (ended, discarded) == ([], [])


async def test_a_later_signal_ends_the_process(ended: list[int]) -> None:
    events, discarded = await send_both(same_signal_s=0)
    assert events == ["signal received", "second signal, exiting at once"]
    assert len(ended) == 1
    assert ended[0] in {128 + number for number in SIGNALS}
    assert discarded == ["files"]
