"""A folder of files that is trusted only whole: written aside, sealed with digests, moved into place at once.

An engine is code that a GPU runs. So no link is followed, nothing of another user's is read, and a folder
whose files are not exactly those of its seal is not used.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from typing import TYPE_CHECKING, Any

from naiad.core.errors import UnavailableError
from naiad.runtime.tensorrt.key import file_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

SEAL = "manifest.json"
_FORMAT = 1
_PRIVATE = 0o700
_MAX_SEAL_BYTES = 1 << 20


class _FaultError(Exception):
    """What is wrong with a folder; it does not leave this module."""


def private_folder(path: Path) -> Path:
    """Make a folder for this user alone, or take the one that is there.

    Raises:
        UnavailableError: it cannot be made, is a link or no folder, or belongs to somebody else.
    """
    try:
        path.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise UnavailableError(f"the folder '{path}' cannot be made: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise UnavailableError(f"'{path}' is not a folder of its own (links are not followed)")
    if found.st_uid != os.geteuid():
        raise UnavailableError(f"the folder '{path}' belongs to user {found.st_uid}, not to {os.geteuid()}")
    if stat.S_IMODE(found.st_mode) != _PRIVATE:
        path.chmod(_PRIVATE)
    return path


def seal(folder: Path, key: str, about: Mapping[str, str]) -> None:
    """Write down what the folder holds, and for what; its files are on the disk then. Raises OSError."""
    files: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        _to_disk(path)
        files[path.name] = {"bytes": path.stat().st_size, "sha256": file_digest(path)}
    target = folder / SEAL
    target.write_text(
        json.dumps({"format": _FORMAT, "key": key, "about": dict(about), "files": files}, indent=1),
        encoding="utf-8",
    )
    _to_disk(target)
    _to_disk(folder)


def read_fault(folder: Path, key: str) -> str | None:
    """Why the folder is not to be trusted, or None. Reads all of it."""
    try:
        _check(folder, key)
    except _FaultError as fault:
        return str(fault)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    except (ValueError, TypeError, KeyError, AttributeError):
        return "its manifest is not one"
    return None


def move(folder: Path, target: Path) -> None:
    """Put a folder in the place of another one, which goes. Raises OSError."""
    if target.exists() or target.is_symlink():
        old = folder.with_name(folder.name + ".old")
        target.rename(old)
        remove(old)
    folder.rename(target)
    _to_disk(target.parent)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder; what cannot be removed stays."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _check(folder: Path, key: str) -> None:
    """Raise what is wrong with a sealed folder."""
    _check_own(folder, stat.S_ISDIR)
    listed = _read_seal(folder / SEAL, key)
    there = {path.name for path in folder.iterdir()} - {SEAL}
    if there != listed.keys():
        raise _FaultError(f"its files are {sorted(there)}, its manifest lists {sorted(listed)}")
    for name, said in listed.items():
        path = folder / name
        _check_own(path, stat.S_ISREG)
        if path.stat().st_size != said["bytes"] or file_digest(path) != said["sha256"]:
            raise _FaultError(f"the content of '{name}' is not what its manifest says")


def _read_seal(path: Path, key: str) -> dict[str, Any]:
    _check_own(path, stat.S_ISREG)
    if path.stat().st_size > _MAX_SEAL_BYTES:
        raise _FaultError(f"its manifest has {path.stat().st_size} bytes, the limit is {_MAX_SEAL_BYTES}")
    said = json.loads(path.read_text(encoding="utf-8"))
    if said["format"] != _FORMAT or said["key"] != key:
        raise _FaultError(f"its manifest is of format {said['format']} and key '{str(said['key'])[:64]}'")
    return dict(said["files"])


def _check_own(path: Path, is_kind: Callable[[int], bool]) -> None:
    """Raise what keeps a path from being a plain file or folder of this user's."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        raise _FaultError(f"there is no '{path.name}'") from None
    if not is_kind(found.st_mode):
        raise _FaultError(f"'{path.name}' is a link or of another kind")
    if found.st_uid != os.geteuid():
        raise _FaultError(f"'{path.name}' belongs to user {found.st_uid}, not to {os.geteuid()}")


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
