"""A model's folder made of the files that a load request brings along, in a directory of its own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Self

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_FILES = 1_000
"""The most files that a load request may bring along."""


class OverrideFolder:
    """A private directory that holds the given files and nothing else. Its owner closes it."""

    def __init__(self, directory: tempfile.TemporaryDirectory[str], path: Path) -> None:
        self._directory = directory
        self.path = path
        """The model's folder, named like the model."""

    @classmethod
    def create(cls, name: str, files: Mapping[str, bytes]) -> Self:
        """Write `files` below a new folder called `name`.

        Args:
            name: the model's name, already known to hold no `/`.
            files: content by path inside the model's folder, such as `1/model.onnx`.

        Raises:
            InvalidArgumentError: a path is absolute, leads out of the folder, is no file's, or is too long;
                two paths are the same; there are more than `MAX_FILES`; the disk is full.
        """
        if len(files) > MAX_FILES:
            raise InvalidArgumentError(
                f"{len(files)} files for model '{name}', at most {MAX_FILES} are taken"
            )
        contents = {_relative(file): content for file, content in files.items()}
        if len(contents) < len(files):
            raise InvalidArgumentError(f"two files for model '{name}' have the same path")
        directory = tempfile.TemporaryDirectory(prefix="naiad-model-")
        try:
            folder = _write(Path(directory.name), name, contents)
        except BaseException:
            directory.cleanup()
            raise
        return cls(directory, folder)

    def close(self) -> None:
        """Remove the directory. Safe to call twice."""
        self._directory.cleanup()


def _relative(file: str) -> PurePosixPath:
    """The path with `.` and `..` resolved, which must stay inside."""
    path = PurePosixPath(os.path.normpath(file))
    if "\0" in file or path.is_absolute() or path == PurePosixPath() or path.parts[0] == "..":
        raise InvalidArgumentError(f"file {file[:200]!r} is not inside the model's folder")
    return path


def _write(root: Path, name: str, files: Mapping[PurePosixPath, bytes]) -> Path:
    folder = root / name
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise InvalidArgumentError(f"model name {name!r} is not a folder's name")
    try:
        folder.mkdir()
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    except (OSError, ValueError) as error:  # ValueError: what the file system's encoding cannot say
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidArgumentError(f"cannot write the files for model {name[:200]!r}: {reason}") from error
    return folder
