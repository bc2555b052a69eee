"""When a model's folder last changed: what a reload is decided by."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from naiad.repository.layout import ModelFolder

_CONFIGS = frozenset({"config.pbtxt", "configs"})  # compared by what they say


@dataclass(frozen=True, slots=True)
class FolderStamp:
    """The latest mtime or ctime, in nanoseconds, of a model's files and folders; 0 for what is not there.

    `modified` is that of the whole folder, `versions` that of each version's folder, `shared` that of what
    all versions use beside the config, such as label files.
    """

    modified: int = 0
    shared: int = 0
    versions: Mapping[int, int] = field(default_factory=dict)


def read_stamp(folder: ModelFolder) -> FolderStamp:
    """The stamp of a folder as it is now. What vanishes meanwhile or may not be read counts as not there."""
    numbers = {str(number) for number in folder.versions}
    versions: dict[int, int] = {}
    modified, shared = _own(folder.path), 0
    for entry in _entries(folder.path):
        latest = _latest(entry.path)
        modified = max(modified, latest)
        if entry.name in numbers:
            versions[int(entry.name)] = latest
        elif entry.name not in _CONFIGS:
            shared = max(shared, latest)
    return FolderStamp(modified, shared, versions)


def _latest(path: str) -> int:
    """The latest change below `path`, links followed: stores keep the bytes elsewhere."""
    latest = 0
    waiting, seen = [path], set[tuple[int, int]]()
    while waiting:
        path = waiting.pop()
        latest = max(latest, _own(path))
        try:
            status = os.stat(path)  # noqa: PTH116  # a path of the file system's own making
        except OSError:
            continue
        identity = (status.st_dev, status.st_ino)
        if stat.S_ISDIR(status.st_mode) and identity not in seen:  # links may lead in circles
            seen.add(identity)
            waiting += [entry.path for entry in _entries(path)]
    return latest


def _own(path: str | Path) -> int:
    """The latest change of one entry and, if it is a link, of what it leads to."""
    latest = 0
    for follow in (False, True):
        try:
            status = os.stat(path, follow_symlinks=follow)  # noqa: PTH116  # as above
        except OSError:
            continue
        latest = max(latest, status.st_mtime_ns, status.st_ctime_ns)
    return latest


def _entries(path: str | Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            yield from entries
    except OSError:
        return
