"""Hostile files, some tens of thousands of them, in a process of its own: nothing but refusals comes of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[3]
SECONDS = 4.0
MOST_KIB = 32 * 1024
"""A picture of a million pixels, its limit there, takes 3 MB as pixels and 6 MB as a progressive JPEG's numbers."""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of address space")
def test_mutated_files_cause_no_crash_no_hang_no_large_allocation_and_no_line_on_stderr() -> None:
    """The seed is fixed; how far the sequence gets depends on the machine."""
    done = subprocess.run(
        [sys.executable, "-m", "support.mutated_images", str(SECONDS)],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    report = json.loads(done.stdout)
    for name, (_, grown_kib) in report["bombs"].items():
        assert grown_kib < MOST_KIB, name
    assert report["grown_kib"] < MOST_KIB
    assert report["slowest_s"] < 1
    answers = report["answers"]
    assert answers["decoded"] > 100
    assert answers["over a limit"] > 10
    for kind in ("JPE", "PNG", "Web", "BMP"):
        assert any(kind in answer for answer in answers), kind
