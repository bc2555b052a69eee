"""Engines on disk, so that each is built once a host: locked, sealed, bounded, never trusted on its word."""

from __future__ import annotations

import os
import secrets
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from naiad.core.errors import UnavailableError
from naiad.runtime.tensorrt.host_lock import host_lock
from naiad.runtime.tensorrt.store import SEAL, move, private_folder, read_fault, remove, seal, size_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

LOCK_TIMEOUT_S = 3_600.0
"""How long to wait for another process that builds the same engine."""

_LAYOUT = "v1"


class _Kept(NamedTuple):
    """One folder of the cache. What is oldest goes first."""

    used_s: float
    size: int
    path: Path


@dataclass(slots=True)
class Lease:
    """The right to use and to fill one entry, while its lock is held.

    `folder` is where the engine's files are, if they were `found`, or where they are to be written.
    `timings` is the folder of the timing cache. `notes` say what was wrong with what lay there.
    """

    key: str
    folder: Path
    timings: Path
    found: bool
    notes: tuple[str, ...] = ()


class EngineCache:
    """The folder of engines. Its methods may be called from several threads and processes."""

    def __init__(self, root: Path, max_bytes: int, *, lock_timeout_s: float = LOCK_TIMEOUT_S) -> None:
        """Make or take the folder.

        Args:
            root: the operator's folder; all lies in a private one below it.
            max_bytes: of all that is kept; the engine that was made last stays, however large it is.
            lock_timeout_s: how long to wait for another process.

        Raises:
            UnavailableError: the folder cannot be used, and why.
        """
        self.root = root
        self._max_bytes = max_bytes
        self._lock_timeout_s = lock_timeout_s
        base = private_folder(_made(root) / _LAYOUT)
        self._entries, self._timings, self._locks, self._building, self._aside = (
            private_folder(base / name) for name in ("engines", "timings", "locks", "building", "aside")
        )
        if not os.access(base, os.W_OK | os.X_OK):
            raise UnavailableError(f"the folder '{base}' cannot be written")

    def holds(self, key: str) -> bool:
        """Whether there is an entry, good or not."""
        return (self._entries / key / SEAL).is_file()

    @contextmanager
    def lease(self, key: str, timings: str, cancelled: threading.Event) -> Iterator[Lease]:
        """Hold one entry: a sound one to read, or else an empty folder to fill and `publish`.

        A faulty entry is set aside. What is not published is gone afterwards.

        Args:
            key: from `engine_key`.
            timings: from `timing_key`.
            cancelled: gives up waiting for the lock when it is set.

        Raises:
            UnavailableError: another process holds the entry for too long, or the disk refuses.
            CancelledError: `cancelled` was set.
        """
        with host_lock(self._lock(key), timeout_s=self._lock_timeout_s, cancelled=cancelled):
            try:
                for stale in self._building.glob(f"{key}.*"):
                    remove(stale)  # of a process that ended: the lock is ours now
                temporary = private_folder(self._building / f"{key}.{os.getpid()}")
                lease = self._found(key, timings, temporary)
            except OSError as error:
                raise _refused(self.root, error) from error
            try:
                yield lease
            finally:
                remove(temporary)

    def publish(self, lease: Lease, about: Mapping[str, str]) -> None:
        """Keep what was written into the lease's folder, for this and other processes.

        Args:
            lease: one whose entry was not found.
            about: what a person may want to know of it.

        Raises:
            UnavailableError: the disk refuses.
        """
        try:
            seal(lease.folder, lease.key, about)
            target = self._entries / lease.key
            move(lease.folder, target)
            lease.folder, lease.found = target, True
            self._keep_timings(lease)
            self._evict(keep=lease.key)
        except OSError as error:
            raise _refused(self.root, error) from error

    def read_fault(self, lease: Lease) -> str | None:
        """What is wrong with an entry that is in use, or None: the engine may have written into it."""
        return read_fault(self._entries / lease.key, lease.key)

    def set_aside(self, lease: Lease, why: str) -> None:
        """Take an entry that does not open out of use; the lease has an empty folder to fill then."""
        self._put_aside(self._entries / lease.key)
        lease.folder, lease.found = private_folder(lease.timings.parent / "engine"), False
        lease.notes = (*lease.notes, f"the cached engine {lease.key[:12]} was set aside: {why}")

    def _found(self, key: str, timings: str, temporary: Path) -> Lease:
        entry, notes = self._entries / key, ()
        fault = read_fault(entry, key) if os.path.lexists(entry) else None
        found = os.path.lexists(entry) and fault is None
        lease = Lease(key, entry, temporary / timings, found, notes)
        if fault is not None:
            self.set_aside(lease, fault)
        elif found:
            os.utime(entry / SEAL)
        else:
            lease.folder = private_folder(temporary / "engine")
        self._lend_timings(lease, timings)
        return lease

    def _lend_timings(self, lease: Lease, key: str) -> None:
        """A copy of the shared timings: the engine writes into its folder, and so do others at that time."""
        private_folder(lease.timings)
        shared = self._timings / key
        if not os.path.lexists(shared):
            return
        if fault := read_fault(shared, key):
            self._put_aside(shared)
            lease.notes = (*lease.notes, f"the timing cache {key[:12]} was set aside: {fault}")
            return
        for path in shared.iterdir():
            if path.name != SEAL:
                (lease.timings / path.name).write_bytes(path.read_bytes())

    def _keep_timings(self, lease: Lease) -> None:
        if not any(lease.timings.iterdir()):
            return
        key = lease.timings.name
        with host_lock(self._lock(key), timeout_s=self._lock_timeout_s, cancelled=threading.Event()):
            seal(lease.timings, key, {})
            move(lease.timings, self._timings / key)

    def _put_aside(self, folder: Path) -> None:
        folder.rename(self._aside / f"{folder.name}.{secrets.token_hex(4)}")

    def _lock(self, key: str) -> Path:
        return self._locks / f"{key}.lock"

    def _evict(self, keep: str) -> None:
        """Remove what was used longest ago until the rest fits; what another process holds stays."""
        kept = sorted(self._kept())
        total = sum(each.size for each in kept)
        for each in kept:
            if total <= self._max_bytes:
                return
            if each.path.name != keep and self._dropped(each.path):
                total -= each.size

    def _kept(self) -> Iterator[_Kept]:
        for folder in (self._entries, self._timings, self._aside):
            for path in folder.iterdir():
                sealed = path / SEAL
                used = sealed.lstat().st_mtime if sealed.exists() and folder != self._aside else 0.0
                yield _Kept(used, size_of(path), path)

    def _dropped(self, path: Path) -> bool:
        if path.parent == self._aside:
            remove(path)
            return True
        try:
            with host_lock(self._lock(path.name), timeout_s=0, cancelled=threading.Event()):
                remove(path)
        except UnavailableError:
            return False
        return True


def _made(root: Path) -> Path:
    """The operator's folder, which may be a link of theirs or another user's; what is in it may not."""
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return root.resolve(strict=True)
    except OSError as error:
        raise UnavailableError(f"the folder '{root}' cannot be made: {error.strerror}") from error


def _refused(root: Path, error: OSError) -> UnavailableError:
    return UnavailableError(f"the engine cache in '{root}' cannot be used: {error.strerror}")
