"""What the system calls the server's threads."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from naiad.runtime.thread_names import children_named, name_thread

COMM = Path("/proc/thread-self/comm")
pytestmark = pytest.mark.skipif(not COMM.exists(), reason="no names of threads here")


def name_in_thread(name: str | None, python_name: str = "naiad-load_0") -> str:
    """What a thread is called after it named itself."""
    found: list[str] = []

    def work() -> None:
        name_thread(name)
        found.append(COMM.read_text().strip())

    thread = threading.Thread(target=work, name=python_name)
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, "load_0"),
        ("run m_0", "run m_0"),
        ("run face_detector_12", "run detector_12"),
        ("pool modèle_é_0", "pool mod?le_?_0"),
    ],
)
def test_threads_are_named_in_fifteen_bytes_that_tell_them_apart(name: str | None, expected: str) -> None:
    assert name_in_thread(name) == expected


def test_threads_that_a_library_starts_get_a_name_and_their_maker_keeps_its_own() -> None:
    before = COMM.read_text()
    found: list[str] = []
    with children_named("pool m"):
        thread = threading.Thread(target=lambda: found.append(COMM.read_text().strip()))
        thread.start()
        thread.join()
    assert found == ["pool m"]
    assert COMM.read_text() == before
