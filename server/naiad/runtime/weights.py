"""What a version computes with, as one digest: the model file's bytes, and those of the files it names."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from naiad.core.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DIGEST_BYTES = 16
_MAX_KNOWN = 1_024
"""Digests that are remembered; the one that was asked for longest ago goes first."""


class WeightFile(NamedTuple):
    """A file that a model is read from, as it was then.

    `name` is the model's own word for it, "" for the model file itself: the same on every machine. `size` is
    in bytes, `modified_ns` the time of its last change.
    """

    name: str
    path: str
    device: int
    inode: int
    size: int
    modified_ns: int


def weight_file(path: Path, name: str = "") -> WeightFile:
    """A file as it is now; raises OSError."""
    found = path.stat()
    return WeightFile(
        name, os.path.realpath(path), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
    )


class WeightDigests:
    """Digests of models' files, each read once as long as it is what it was. For several threads at once."""

    def __init__(self) -> None:
        """Know none yet."""
        self._known: OrderedDict[WeightFile, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def digest(self, files: Sequence[WeightFile]) -> str:
        """The digest of all files together, 32 hexadecimal digits.

        Args:
            files: as they were when the model was read from them; the order is of no consequence.

        Raises:
            UnavailableError: one cannot be read, or is no longer what it was.
        """
        total = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for file in sorted(files):
            name = file.name.encode()
            total.update(len(name).to_bytes(4, "big") + name + self._of(file))
        return total.hexdigest()

    def _of(self, file: WeightFile) -> bytes:
        with self._lock:
            known = self._known.get(file)
            if known is not None:
                self._known.move_to_end(file)
                return known
        found = _read(file)
        with self._lock:
            self._known[file] = found
            while len(self._known) > _MAX_KNOWN:
                self._known.popitem(last=False)
        return found


def _read(file: WeightFile) -> bytes:
    """The digest of one file, read in pieces: weights may be as large as the memory."""
    total = hashlib.blake2b(digest_size=DIGEST_BYTES)
    try:
        with open(file.path, "rb") as opened:  # noqa: PTH123  # a name that was resolved already
            hashlib.file_digest(opened, lambda: total)
            after = os.fstat(opened.fileno())
    except OSError as error:
        raise UnavailableError(f"unable to read '{file.path}': {error.strerror}") from error
    if (after.st_dev, after.st_ino, after.st_size, after.st_mtime_ns) != file[2:]:
        raise UnavailableError(f"'{file.path}' has changed while the model was loaded from it: load it again")
    return total.digest()
