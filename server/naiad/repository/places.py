"""Where the folders of a repository really lie: what tells a folder from another put in its place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Place: TypeAlias = tuple[int, int]
"""A folder's device and inode."""

_LEVELS = 2  # links to a model's folder and to a version's


def read_places(roots: Sequence[Path]) -> dict[Path, Place]:
    """The repositories, and the models' and versions' folders that are links, with where they lie now.

    Args:
        roots: the repositories; one that is not there is left out.
    """
    found: dict[Path, Place] = {}
    for root in roots:
        for path in (root, *_links(root, _LEVELS)):
            try:
                status = path.stat()
            except OSError:
                continue
            found[path] = status.st_dev, status.st_ino
    return found


def _links(folder: Path, levels: int) -> Iterator[Path]:
    """The links to folders in it, and in its folders, down to so many levels."""
    try:
        with os.scandir(folder) as entries:
            folders = [(Path(entry.path), entry.is_symlink()) for entry in entries if entry.is_dir()]
    except OSError:
        return
    for path, is_link in folders:
        if is_link:
            yield path
        if levels > 1:
            yield from _links(path, levels - 1)
