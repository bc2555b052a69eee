"""What a window counts, and that CPU times are those of the process asked for."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from bench.meter import Reading, Window, read, sums

FIRST, LAST = Reading(1_000_000, 10_000, 20_000), Reading(2_000_000, 15_000, 40_000)


def test_a_call_counts_with_the_share_that_lies_in_the_window() -> None:
    finished = [
        (1_200_000, 1_400_000),  # inside: 1
        (500_000, 1_500_000),  # half of it: 0.5
        (1_750_000, 2_750_000),  # a quarter: 0.25
        (100_000, 900_000),  # before: 0
    ]
    window = Window.between(FIRST, LAST, finished, size=4)
    assert window.count == pytest.approx(4 * 1.75)
    assert window.seconds == pytest.approx(0.001)
    assert window.latencies_us == [200, 1_000]
    assert (window.own_cpu_us, window.other_cpu_us) == (5.0, 20.0)


def test_a_call_longer_than_the_window_still_has_a_latency() -> None:
    window = Window.between(FIRST, LAST, [(0, 4_000_000)])
    assert window.count == pytest.approx(0.25)
    assert window.latencies_us == [4_000]


_BUSY = """
import os, subprocess, sys
subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
sum(range(3_000_000))
print(sum(os.times()[:4]), flush=True)
sys.stdin.read()
"""


def test_cpu_time_of_a_process_and_its_children_is_read() -> None:
    """Of one that tells its own; the kernel counts in ticks of 10 ms."""
    with subprocess.Popen(
        [sys.executable, "-c", _BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as busy:
        assert busy.stdout is not None
        used_s = float(busy.stdout.readline())
        reading = read(busy.pid)
        busy.communicate()
    assert used_s > 0.05
    assert reading.other_cpu / 1e9 == pytest.approx(used_s, abs=0.05)


def test_sums_tell_outputs_apart() -> None:
    assert sums({"b": np.ones((2, 2), np.int32), "a": np.full(3, 0.5, np.float32)}) == {"a": 1.5, "b": 4.0}
