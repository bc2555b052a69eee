"""When a model's folder last changed, and whether it is as it was: what a reload is decided by."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from naiad.config.experiment_reader import EXPERIMENT_FILENAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from naiad.repository.layout import ModelFolder

_CONFIGS = frozenset({"config.pbtxt", "configs"})  # compared by what they say
_EXPERIMENTS = ("experiment.", ".experiment.")  # also what editors and writers put beside them for a while
_BESIDE_NS = 1_000_000_000  # a folder's own time is its entry's, give or take the ticks of coarse clocks
_MASK = 2**64 - 1


@dataclass(frozen=True, slots=True)
class FolderStamp:
    """The latest mtime or ctime, in nanoseconds, of a model's files and folders; 0 for what is not there.

    `modified` is that of the whole folder, `versions` that of each version's folder, `shared` that of what
    all versions use beside the config, such as label files. Files that begin with `experiment.` are in none
    of them; `experiment` is that of `experiment.json`.

    `names` are what the model's folder holds. `content` stands for names, sizes and times of all below it:
    two looks that find the same number found the same, whatever the clocks say. It means nothing to another
    process.
    """

    modified: int = 0
    shared: int = 0
    versions: Mapping[int, int] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    experiment: int = 0
    content: int = 0


def read_stamp(folder: ModelFolder) -> FolderStamp:
    """The stamp of a folder as it is now. What vanishes meanwhile or may not be read counts as not there.

    Folders called by numbers that are no version of `folder` are left out: they came after it was read, or
    do not count yet.
    """
    numbers = {str(number) for number in folder.versions}
    own, _ = _own(folder.path)
    versions: dict[int, int] = {}
    names: list[str] = []
    modified = shared = content = experiment = beside = 0
    for entry in _entries(folder.path):
        if entry.name.isdecimal() and entry.name not in numbers:
            continue
        latest, mark = _below(entry.path)
        if entry.name.startswith(_EXPERIMENTS):
            beside = max(beside, latest)
            experiment = latest if entry.name == EXPERIMENT_FILENAME else experiment
            continue
        names.append(entry.name)
        modified, content = max(modified, latest), (content + mark) & _MASK
        if entry.name in numbers:
            versions[int(entry.name)] = latest
        elif entry.name not in _CONFIGS:
            shared = max(shared, latest)
    if own > beside + _BESIDE_NS:  # else an experiment was written: what else comes or goes is in `names`
        modified = max(modified, own)
    return FolderStamp(modified, shared, versions, tuple(names), experiment, content)


def _below(path: str) -> tuple[int, int]:
    """The latest change at and below `path` and what stands for all of it.

    Links are followed: stores keep the bytes elsewhere.
    """
    latest = mark = 0
    waiting, seen = [path], set[tuple[int, int]]()
    while waiting:
        path = waiting.pop()
        own, sizes = _own(path)
        latest, mark = max(latest, own), mark + hash((path, sizes))
        try:
            status = os.stat(path)  # noqa: PTH116  # a path of the file system's own making
        except OSError:
            continue
        identity = (status.st_dev, status.st_ino)
        if stat.S_ISDIR(status.st_mode) and identity not in seen:  # links may lead in circles
            seen.add(identity)
            waiting += [entry.path for entry in _entries(path)]
    return latest, mark & _MASK


def _own(path: str | Path) -> tuple[int, tuple[tuple[int, int, int], ...]]:
    """The latest change of an entry and, if it is a link, of its target; size, mtime and ctime of both."""
    latest = 0
    found: list[tuple[int, int, int]] = []
    for follow in (False, True):
        try:
            status = os.stat(path, follow_symlinks=follow)  # noqa: PTH116  # as above
        except OSError:
            continue
        latest = max(latest, status.st_mtime_ns, status.st_ctime_ns)
        found.append((status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return latest, tuple(found)


def _entries(path: str | Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            yield from sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return
