"""Versions as a scrape sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from naiad.core.tensors import InferTimes
from naiad.telemetry.metrics import VersionView
from naiad.telemetry.statistics import VersionStatistics

if TYPE_CHECKING:
    from collections.abc import Callable

MS = 1_000_000


@pytest.fixture
def view() -> Callable[..., VersionView]:
    """Makes a view of version 1 of `m`, with changes."""

    def make(**changes: Any) -> VersionView:
        values: dict[str, Any] = {
            "model": "m",
            "version": 1,
            "statistics": VersionStatistics(),
            "queued": 0,
            "busy": 0,
            "instances": 2,
            "load_seconds": 1.5,
        }
        return VersionView(**(values | changes))

    return make


@pytest.fixture
def run_batch() -> Callable[[VersionStatistics, int], None]:
    """Counts a batch of so many requests, each queued for 2 ms, placed in 1, run in 4 and split in 1."""

    def run(counted: VersionStatistics, size: int) -> None:
        counted.record_execution(size, 1 * MS, 4 * MS, 1 * MS, "preferred")
        for _ in range(size):
            counted.record_success(InferTimes(0, 2 * MS, 3 * MS, 7 * MS, 8 * MS), 1)

    return run
