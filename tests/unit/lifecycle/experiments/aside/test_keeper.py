"""What the process aside is counted by."""

from __future__ import annotations

import threading
from typing import Any

from naiad.lifecycle.experiments.aside.keeper import Keeper
from naiad.lifecycle.experiments.aside.settings import AsideSettings


def test_the_cpu_time_of_a_process_that_ends_is_counted_once_also_meanwhile() -> None:
    """Its end takes a while, in which the server may be scraped: a counter must not rise and fall again."""
    keeper = Keeper(AsideSettings(), threading.Event())
    seen: list[int] = []

    class Ending:
        cpu_ns = 5

        def end(self) -> None:
            seen.append(keeper.cpu_ns)

    child: Any = Ending()
    for past_ns in (0, 5):
        keeper._child = child
        assert keeper.cpu_ns == past_ns + 5
        keeper.reset()
        assert keeper.cpu_ns == past_ns + 5
        child = Ending()
    assert seen == [5, 10]
