"""An engine is built once a host, kept within a bound, and used only if it is exactly what was kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from naiad.core.errors import CancelledError, UnavailableError
from naiad.runtime.tensorrt.cache import EngineCache, Lease
from naiad.runtime.tensorrt.host_lock import host_lock
from naiad.runtime.tensorrt.store import SEAL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY, OTHER, TIMINGS = "a" * 64, "b" * 64, "c" * 64
ENGINE = b"an engine"


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache", 1_000_000, lock_timeout_s=5)


@contextmanager
def leased(cache: EngineCache, key: str = KEY) -> Iterator[Lease]:
    with cache.lease(key, TIMINGS, threading.Event()) as lease:
        yield lease


def build(cache: EngineCache, key: str = KEY, content: bytes = ENGINE) -> Path:
    """What the builder does, with a file for an engine; the entry's folder."""
    with leased(cache, key) as lease:
        assert not lease.found
        (lease.folder / "graph.engine").write_bytes(content)
        (lease.timings / "sm90.timing").write_bytes(b"timings of " + content)
        cache.publish(lease, {"model": "m/1"})
        return lease.folder


def test_an_engine_that_was_published_is_found_and_its_folder_is_the_entrys(cache: EngineCache) -> None:
    assert not cache.holds(KEY)
    folder = build(cache)
    assert cache.holds(KEY)
    with leased(cache) as lease:
        assert (lease.found, lease.folder, lease.notes) == (True, folder, ())
        assert (lease.folder / "graph.engine").read_bytes() == ENGINE


def test_what_is_not_published_is_gone(cache: EngineCache) -> None:
    with leased(cache) as lease:
        (lease.folder / "graph.engine").write_bytes(ENGINE)
        built = lease.folder
    assert not built.exists()
    assert not cache.holds(KEY)


def test_a_build_that_fails_leaves_no_lock_and_no_file(cache: EngineCache) -> None:
    def fail() -> None:
        with leased(cache) as lease:
            (lease.folder / "half.engine").write_bytes(ENGINE)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list((cache.root / "v1" / "building").iterdir()) == []
    build(cache)


def test_timings_are_shared_by_engines_of_one_kind_of_gpu(cache: EngineCache) -> None:
    """Each build has a copy, so that two at once do not write into one file."""
    build(cache)
    with leased(cache, OTHER) as lease:
        assert [path.name for path in lease.timings.iterdir()] == ["sm90.timing"]
        assert (lease.timings / "sm90.timing").read_bytes() == b"timings of " + ENGINE


def test_folders_are_their_owners_alone(cache: EngineCache) -> None:
    folder = build(cache)
    for path in (folder, folder.parent, folder.parent.parent, cache.root):
        assert path.stat().st_mode & 0o777 == 0o700, path


def flip(folder: Path) -> None:
    path = folder / "graph.engine"
    path.write_bytes(b"x" + path.read_bytes()[1:])


def cut(folder: Path) -> None:
    (folder / "graph.engine").write_bytes(ENGINE[:-1])


def add(folder: Path) -> None:
    (folder / "another.engine").write_bytes(ENGINE)


def lose(folder: Path) -> None:
    (folder / "graph.engine").unlink()


def link(folder: Path) -> None:
    path = folder / "graph.engine"
    target = folder.parent / "elsewhere"
    path.rename(target)
    path.symlink_to(target)


def unseal(folder: Path) -> None:
    (folder / SEAL).unlink()


def scribble(folder: Path) -> None:
    (folder / SEAL).write_text("[]")


def rename(folder: Path) -> None:
    said = json.loads((folder / SEAL).read_text())
    (folder / SEAL).write_text(json.dumps(said | {"key": OTHER}))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (flip, "the content of 'graph.engine' is not what its manifest says"),
        (cut, "the content of 'graph.engine' is not"),
        (add, "its files are ['another.engine', 'graph.engine']"),
        (lose, "its files are []"),
        (link, "'graph.engine' is a link"),
        (unseal, "there is no 'manifest.json'"),
        (scribble, "its manifest is not one"),
        (rename, f"and key '{OTHER}'"),
    ],
)
def test_a_spoilt_or_foreign_entry_is_set_aside_and_built_anew(
    cache: EngineCache, spoil: Callable[[Path], None], why: str
) -> None:
    folder = build(cache)
    spoil(folder)
    with leased(cache) as lease:
        assert not lease.found
        [note] = lease.notes
        assert "set aside" in note
        assert why in note
    build(cache)
    with leased(cache) as lease:
        assert lease.found


def test_an_entry_that_is_a_link_is_not_followed(cache: EngineCache, tmp_path: Path) -> None:
    folder = build(cache)
    real = tmp_path / "elsewhere"
    folder.rename(real)
    folder.symlink_to(real)
    with leased(cache) as lease:
        assert not lease.found
    assert (real / "graph.engine").is_file()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_another_users_engine_is_not_used(cache: EngineCache) -> None:
    os.chown(build(cache) / "graph.engine", 12345, -1)
    with leased(cache) as lease:
        assert not lease.found
        assert "belongs to user 12345" in lease.notes[0]


def test_spoilt_timings_are_set_aside_and_the_engine_stays(cache: EngineCache) -> None:
    build(cache)
    timings = cache.root / "v1" / "timings" / TIMINGS / "sm90.timing"
    timings.write_bytes(b"x")
    with leased(cache) as lease:
        assert lease.found
        assert list(lease.timings.iterdir()) == []
        assert "the timing cache" in lease.notes[0]


def test_an_engine_that_does_not_open_makes_room_for_another_one(cache: EngineCache) -> None:
    build(cache)
    with leased(cache) as lease:
        cache.set_aside(lease, "it is of another version")
        assert not lease.found
        assert list(lease.folder.iterdir()) == []
        (lease.folder / "graph.engine").write_bytes(b"another")
        cache.publish(lease, {})
    with leased(cache) as lease:
        assert (lease.folder / "graph.engine").read_bytes() == b"another"


def test_what_an_engine_writes_into_its_entry_is_noticed(cache: EngineCache) -> None:
    build(cache)
    with leased(cache) as lease:
        assert cache.read_fault(lease) is None
        (lease.folder / "graph.engine").write_bytes(b"rebuilt")
        assert cache.read_fault(lease) is not None


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path, 4_000)
    keys = [digit * 64 for digit in "123"]
    for age, key in enumerate(keys[:2]):
        os.utime(build(cache, key, bytes(900)) / SEAL, (age, age))
    with leased(cache, keys[0]):  # used now, so the second one is the oldest
        pass
    build(cache, keys[2], bytes(900))
    assert [cache.holds(key) for key in keys] == [True, False, True]


def test_what_was_set_aside_goes_before_any_engine(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path, 2_800)
    flip(build(cache, KEY, bytes(900)))
    build(cache, KEY, bytes(900))
    assert cache.holds(KEY)
    assert list((tmp_path / "v1" / "aside").iterdir()) == []


def test_the_last_engine_stays_however_large_it_is(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path, 10)
    build(cache)
    assert cache.holds(KEY)
    build(cache, OTHER)
    assert (cache.holds(KEY), cache.holds(OTHER)) == (False, True)


def test_what_a_crashed_process_left_is_removed(cache: EngineCache) -> None:
    left = cache.root / "v1" / "building" / f"{KEY}.1"
    left.mkdir()
    (left / "half.engine").write_bytes(ENGINE)
    build(cache)
    assert not left.exists()


def test_a_folder_that_cannot_be_one_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match="file/cache' cannot be made: Not a dir"):
        EngineCache(tmp_path / "file" / "cache", 1)
    (tmp_path / "v1").symlink_to(tmp_path / "file")
    with pytest.raises(UnavailableError, match="v1"):
        EngineCache(tmp_path, 1)


BUILD = """
import sys, threading
from pathlib import Path
from naiad.runtime.tensorrt.cache import EngineCache
cache = EngineCache(Path(sys.argv[1]), 1_000_000, lock_timeout_s=20)
print("started", flush=True)
sys.stdin.readline()
with cache.lease(sys.argv[2], sys.argv[3], threading.Event()) as lease:
    print("found" if lease.found else "built", flush=True)
    if not lease.found:
        (lease.folder / "graph.engine").write_bytes(b"an engine")
        sys.stdin.readline()
        cache.publish(lease, {})
"""


@contextmanager
def builder_process(root: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", BUILD, str(root), KEY, TIMINGS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        yield process
        process.kill()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_two_processes_build_one_engine(tmp_path: Path) -> None:
    """The second one waits for the first, and finds what it built."""
    with builder_process(tmp_path) as first, builder_process(tmp_path) as second:
        tell(first)
        assert hear(first) == "built"
        tell(second)
        with (
            pytest.raises(UnavailableError) as caught,
            host_lock(tmp_path / "v1" / "locks" / f"{KEY}.lock", timeout_s=0.1, cancelled=threading.Event()),
        ):
            pass
        assert f"is held by process {first.pid}, waited 0.1 s" in caught.value.message
        tell(first)
        assert hear(second) == "found"
        assert first.wait(10) == second.wait(10) == 0


def test_a_process_that_is_killed_leaves_the_engine_to_the_next(tmp_path: Path) -> None:
    with builder_process(tmp_path) as first:
        tell(first)
        assert hear(first) == "built"
        first.kill()
        first.wait(10)
    cache = EngineCache(tmp_path, 1_000_000, lock_timeout_s=5)
    build(cache)


def test_waiting_for_a_lock_ends_when_nobody_wants_it_any_more(tmp_path: Path) -> None:
    path, cancelled = tmp_path / "lock", threading.Event()
    cancelled.set()
    with host_lock(path, timeout_s=0, cancelled=threading.Event()):  # noqa: SIM117  # the second fails
        with pytest.raises(CancelledError), host_lock(path, timeout_s=60, cancelled=cancelled):
            pass
