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


RELEASING = """
from naiad.runtime.allocator import keep_memory_warm, release_freed_memory
assert keep_memory_warm()
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
weights = [bytearray(4 * 2**20) for _ in range(50)]
last = bytearray(2**20)  # on top of the heap: what lies below it would stay
loaded = resident()
del weights
kept = resident()
assert release_freed_memory()
print(loaded - kept, loaded - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these thresholds")
def test_freed_memory_stays_until_it_is_released() -> None:
    command = [sys.executable, "-c", RELEASING]
    kept, released = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(kept) < 20 * 2**20
    assert int(released) > 190 * 2**20


THREADS_HEAP = """
import threading
from naiad.runtime.allocator import keep_memory_warm, release_freed_memory
assert keep_memory_warm()
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
def load():
    weights = [bytearray(3 * 2**20) for _ in range(10)]
    del weights
    freed.wait()
    ended.wait()
before, freed, ended = resident(), threading.Barrier(5), threading.Event()
threads = [threading.Thread(target=load) for _ in range(4)]
for thread in threads:
    thread.start()
freed.wait()
kept = resident() - before
release_freed_memory()
print(kept, resident() - before)
ended.set()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these heaps")
def test_what_threads_have_freed_is_released_too() -> None:
    """The end of a thread's heap, which `malloc_trim` leaves alone: four threads share two heaps."""
    command = [sys.executable, "-c", THREADS_HEAP]
    kept, left = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert int(kept) > 25 * 2**20
    assert int(left) < 2 * 2**20
