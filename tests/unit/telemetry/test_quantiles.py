"""Quantiles of the last minute: their error, their window, their memory."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from naiad.telemetry.quantiles import PARTS, RELATIVE_ERROR, WINDOW_NS, SlidingQuantiles

NOW = 10**15
POINTS = [0.0, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0]


@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
def test_each_quantile_is_within_the_error_of_the_value_of_its_rank(spread: float) -> None:
    """Narrow or with a long tail: log-normal latencies around 5 ms."""
    generator = random.Random(7)
    values = [int(generator.lognormvariate(math.log(5e6), spread)) for _ in range(5_000)]
    values = [min(max(value, 1_000), 3_600 * 10**9) for value in values]
    sketch = SlidingQuantiles()
    for value in values:
        sketch.add(value, NOW)
    exact = np.quantile(values, POINTS, method="lower")
    assert sketch.read(POINTS, NOW) == pytest.approx(exact, rel=RELATIVE_ERROR + 1e-9)


def test_what_is_older_than_the_window_is_forgotten() -> None:
    sketch = SlidingQuantiles()
    sketch.add(1_000_000, NOW)
    sketch.add(9_000_000, NOW + WINDOW_NS // 2)
    assert sketch.read([0.0], NOW + WINDOW_NS // 2) == pytest.approx([1_000_000], rel=0.011)
    assert sketch.read([0.0], NOW + WINDOW_NS) == pytest.approx([9_000_000], rel=0.011)
    assert math.isnan(sketch.read([0.5], NOW + 2 * WINDOW_NS)[0])


def test_a_slot_is_used_again_without_its_old_counts() -> None:
    sketch = SlidingQuantiles()
    for _ in range(10):
        sketch.add(1_000_000, NOW)
    sketch.add(50_000_000, NOW + WINDOW_NS)
    assert sketch.read([0.0], NOW + WINDOW_NS) == pytest.approx([50_000_000], rel=0.011)


def test_an_empty_window_has_no_quantile() -> None:
    assert all(map(math.isnan, SlidingQuantiles().read(POINTS, NOW)))


def test_memory_is_bounded_whatever_comes() -> None:
    """Every order of magnitude from nothing to a year, in every part of the window."""
    sketch = SlidingQuantiles()
    for part in range(PARTS):
        for step in range(20_000):
            sketch.add(int(1.003**step) if step < 15_000 else 0, NOW + part * WINDOW_NS // PARTS)
    assert max(len(part) for part in sketch._parts) <= 1_102
