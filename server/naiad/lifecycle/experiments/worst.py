"""The requests on which two versions disagree most, kept on disk: a bounded folder of the worst.

Nothing is kept unless a folder is given: what is kept are callers' own pictures. A file's name begins with
its disagreement in parts of a million, so a listing by name is one by disagreement.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from naiad.core.errors import InvalidArgumentError, UnavailableError
from naiad.lifecycle.experiments.kept import MAX_UNPACKED_BYTES, Disagreement, load, pack, raw_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from naiad.vision.agreement import Agreement

__all__ = ["DEFAULT_MAX_BYTES", "Disagreement", "Kept", "WorstDisagreements", "kept_files", "load"]

DEFAULT_MAX_BYTES = 256 << 20
_MILLION = 1_000_000
_NAME = re.compile(r"(\d{7})-.*\.npz")
_UNFINISHED = ".part"


class Kept(NamedTuple):
    """A file of the folder. `parts` is its disagreement in parts of a million."""

    parts: int
    path: Path
    size_bytes: int


class WorstDisagreements:
    """The worst disagreements of one folder. For one thread, and one process a folder.

    What the folder holds from before counts. Files of other names are left alone.
    """

    def __init__(self, folder: Path | None, keep: int, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        """Take over what the folder holds.

        Args:
            folder: where they are kept, made if it is not there; None keeps nothing.
            keep: at most this many; 0 keeps nothing.
            max_bytes: at most this much in all.

        Raises:
            UnavailableError: the folder cannot be made or read.
        """
        self._folder = folder if keep > 0 else None
        self._keep = keep
        self._max_bytes = max_bytes
        self._kept: list[Kept] = []
        if self._folder is not None:
            with _told("use", self._folder):
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                for path in self._folder.glob(f"tmp*{_UNFINISHED}"):
                    path.unlink(missing_ok=True)
                self._kept = sorted(_files(self._folder), reverse=True)
                self._evict()

    @property
    def kept(self) -> tuple[Kept, ...]:
        """What is there, the worst first."""
        return tuple(self._kept)

    def would_keep(self, agreement: Agreement) -> bool:
        """Whether `offer` would keep such a one if it is not too large: cheap, to be asked before copies."""
        parts = _parts(agreement)
        if self._folder is None or not parts:
            return False
        return len(self._kept) < self._keep or parts > self._kept[-1].parts

    def offer(self, found: Disagreement) -> Path | None:
        """Keep this one if it is among the worst; what is better than the rest goes.

        Returns:
            Where it is kept; None if it is not, also because it is too large for what worse ones leave free.

        Raises:
            UnavailableError: it cannot be written.
        """
        if self._folder is None or not self.would_keep(found.agreement):
            return None
        parts = _parts(found.agreement)
        room = self._max_bytes - sum(each.size_bytes for each in self._kept if each.parts >= parts)
        if raw_bytes(found) > MAX_UNPACKED_BYTES:
            return None
        with _told("write to", self._folder):
            written = _write(self._folder, found, parts, room)
            if written is None:
                return None
            self._kept = sorted([*self._kept, written], reverse=True)
            self._evict()
        return written.path

    def clear(self) -> None:
        """Remove all that is kept.

        Raises:
            UnavailableError: a file cannot be removed.
        """
        if self._folder is not None:
            with _told("clear", self._folder):
                while self._kept:
                    self._kept[-1].path.unlink(missing_ok=True)
                    self._kept.pop()

    def _evict(self) -> None:
        """Remove the least bad until the rest is within both limits."""
        while self._kept and (
            len(self._kept) > self._keep or sum(each.size_bytes for each in self._kept) > self._max_bytes
        ):
            self._kept[-1].path.unlink(missing_ok=True)
            self._kept.pop()


def kept_files(place: Path) -> list[Path]:
    """The files of a folder, the worst first; or the file itself.

    Raises:
        InvalidArgumentError: there is none.
    """
    if not place.is_dir():
        return [place]
    try:
        found = [each.path for each in sorted(_files(place), reverse=True)]
    except OSError as error:
        raise InvalidArgumentError(f"cannot read the folder {place}: {error.strerror}") from None
    if not found:
        raise InvalidArgumentError(f"the folder {place} holds no kept disagreements")
    return found


@contextlib.contextmanager
def _told(verb: str, folder: Path) -> Iterator[None]:
    """Tell what fails with the folder as an error of ours."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(
            f"cannot {verb} the folder of kept disagreements {folder}: {error.strerror or error}"
        ) from error


def _files(folder: Path) -> Iterator[Kept]:
    for path in folder.iterdir():
        name = _NAME.fullmatch(path.name)
        if name is not None and path.is_file():
            yield Kept(int(name[1]), path, path.stat().st_size)


def _parts(agreement: Agreement) -> int:
    return round(agreement.disagreement * _MILLION)


def _write(folder: Path, found: Disagreement, parts: int, room: int) -> Kept | None:
    """Write a whole file or none; None if it takes more than `room` bytes."""
    # No kept file has this suffix: what a crash leaves behind is never read, and goes at the next start.
    with tempfile.NamedTemporaryFile(dir=folder, suffix=_UNFINISHED, delete=False) as file:
        temporary = Path(file.name)
        try:
            pack(file, found)
            file.flush()
            size = temporary.stat().st_size
            if size > room:
                temporary.unlink()
                return None
            stamp = found.at.strftime("%Y%m%dT%H%M%S%f")
            # What tempfile chose is unique here, and stays so under the final name.
            path = folder / f"{parts:07d}-{stamp}-{temporary.stem.removeprefix('tmp')}.npz"
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return Kept(parts, path, size)
