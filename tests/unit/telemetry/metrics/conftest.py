"""Versions as a scrape sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from naiad.core.tensors import InferTimes
from naiad.telemetry.metrics import ArmView, ExperimentView, ShadowView, VersionView
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


@pytest.fixture
def experiment() -> ExperimentView:
    """Version 2 at a tenth, shadowed as well, and of no one task: every figure is known. Version 1 is new."""
    nothing = dict.fromkeys(("success", "failed", "callers_fault", "cancelled"), 0)
    outcomes = {"success": 7, "failed": 1, "callers_fault": 2, "cancelled": 3}
    latencies_s = {"0.5": 0.004, "0.9": 0.005, "0.99": 0.25}
    return ExperimentView(
        model="m",
        arms=[
            ArmView(1, 0.9, nothing, 0, {}, None, None, None, None),
            ArmView(2, 0.1, outcomes, 7, latencies_s, 0.125, 1.5, 0.75, 12.5),
        ],
        shadow=ShadowView(2, {"compared": 5, "failed": 1, "skipped": 4}, 0.25, 0.0, 0.96, 0.002),
        verdicts={2: "holding"},
        decisions={("roll_back", "guard"): 1, ("resume", "person"): 2},
    )
