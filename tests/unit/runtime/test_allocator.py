"""Freed megabytes stay in the process: measured as page faults of a fresh one."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from naiad.runtime.allocator import keep_memory_warm
if sys.argv[1] == "warm":
    assert keep_memory_warm()
def messages():
    kept = [b"x" * 900_000 for _ in range(16)]
messages()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    messages()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    command = [sys.executable, "-c", PROGRAM, mode]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these thresholds")
def test_repeated_megabytes_cause_hardly_any_page_faults() -> None:
    assert page_faults("warm") * 10 < page_faults("cold")
