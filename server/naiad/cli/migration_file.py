"""The file that `naiad embed --migrate` writes: opened where a run before has left it, of one space alone."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Self

from naiad.core.errors import InvalidArgumentError, UnavailableError
from naiad_client.embedding_file import EmbeddingHeader, header_line, picture_line, scan_embeddings

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from naiad_client.embedding_file import StoredPicture

_MODE = 0o666
"""As `open` makes files; the process's mask has the last word."""


class MigrationFile:
    """Appends pictures to a file; use it in `with`. What was written stays, whatever ends the process.

    `done` is the hash of the content of each picture that the file has, by path.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or make it; a line that was cut short is taken off its end.

        Raises:
            InvalidArgumentError: it is none of these files, or damaged.
            UnavailableError: it cannot be read or written, or another run writes to it.
        """
        self.path = path
        self.header: EmbeddingHeader | None = None
        self.done: dict[str, str] = {}
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        except OSError as error:
            raise UnavailableError(f"cannot write {path}: {error.strerror}") from None
        try:
            self._take_over()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """See that what was written is on the disk, and let go of the file."""
        try:
            os.fsync(self._file)
        except OSError as error:
            raise UnavailableError(f"cannot write {self.path}: {error.strerror}") from None
        finally:
            os.close(self._file)

    def begin(self, header: EmbeddingHeader) -> None:
        """See that vectors of that kind may be added; write the first line of a new file.

        Raises:
            InvalidArgumentError: the file has vectors of another kind; names both.
        """
        if self.header is None:
            self._write(header_line(header))
            self.header = header
            return
        held = self.header
        if header.embedding_space != held.embedding_space:
            raise InvalidArgumentError(
                f"{self.path} has vectors of embedding space '{held.embedding_space}' ({held.model}/"
                f"{held.version}), {header.model}/{header.version} now makes '{header.embedding_space}': two "
                "spaces do not go into one file, so name another one with --output"
            )
        self.check_kind(finds_faces=header.finds_faces)

    def check_kind(self, *, finds_faces: bool) -> None:
        """See that the file is of what this run has, photos or crops; raises InvalidArgumentError."""
        if self.header is not None and self.header.finds_faces != finds_faces:
            held, given = ("photos", "crops") if self.header.finds_faces else ("crops", "photos")
            raise InvalidArgumentError(
                f"{self.path} was written for {held}, and now --find-faces says {given}: name another file"
            )

    def add(self, picture: StoredPicture) -> None:
        """Write a picture, which takes the place of an earlier line of the same path."""
        self._write(picture_line(picture))
        self.done[picture.path] = picture.content

    def _take_over(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UnavailableError(f"another run writes to {self.path}") from None
        end = 0
        try:
            for entry, place in scan_embeddings(self.path):
                end = place
                if isinstance(entry, EmbeddingHeader):
                    self.header = entry
                else:
                    self.done[entry.path] = entry.content
            os.ftruncate(self._file, end)
            os.lseek(self._file, end, os.SEEK_SET)
        except ValueError as error:
            raise InvalidArgumentError(f"{error}: name another file with --output") from None
        except OSError as error:
            raise UnavailableError(f"cannot read {self.path}: {error.strerror}") from None

    def _write(self, line: bytes) -> None:
        """A whole line, at once: a process that is killed leaves at most one that is cut short."""
        left = memoryview(line)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            raise UnavailableError(f"cannot write {self.path}: {error.strerror}") from None
