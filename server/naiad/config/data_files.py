"""Reads the files of values that a config names, from their folder beside the versions and nowhere else."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.config.model_config import ModelConfig


class DataFiles(NamedTuple):
    """A kind of such files: what to call one, the model's folder that has them, the most bytes of one."""

    what: str
    folder: str
    max_bytes: int


def read_data_file(config: ModelConfig, files: DataFiles, name: str, *, setting: str) -> bytes:
    """The content of a file.

    Args:
        config: whose folder has it.
        files: which kind it is.
        name: as the config has it. A symlink is its owner's choice: that is how stores share files.
        setting: what names it, for errors.

    Raises:
        InvalidArgumentError: the name leads out of the folder, the file cannot be read, or is too large.
    """
    path = _path(config, files, name, setting)
    try:
        if not path.is_file():  # a pipe would block the loader for ever
            raise InvalidArgumentError(f"{files.what} file {path} is not there, or no regular file")
        size = path.stat().st_size
        if size > files.max_bytes:
            raise InvalidArgumentError(
                f"{files.what} file {path} has {size} bytes, the limit is {files.max_bytes}"
            )
        return path.read_bytes()
    except OSError as error:
        raise InvalidArgumentError(f"cannot read {files.what} file {path}: {error.strerror}") from error


def _path(config: ModelConfig, files: DataFiles, text: str, setting: str) -> Path:
    name = PurePosixPath(text)
    if config.folder is None or name.is_absolute() or ".." in name.parts or "\0" in text:
        raise InvalidArgumentError(
            f"{setting} of model '{config.name}' is {text!r}: "
            f"it must stay inside the model's folder '{files.folder}'"
        )
    return config.folder / files.folder / name
