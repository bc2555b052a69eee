"""Reads the labels of an output's classes from a model's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path

MAX_LABEL_BYTES = 16 * 2**20
"""The largest label file that is read."""


def read_labels(model_folder: Path, label_filename: str) -> tuple[str, ...]:
    """The labels, one a line; the first line is the label of index 0. Empty lines are empty labels.

    Args:
        model_folder: the model's folder.
        label_filename: the file, relative to it.

    Raises:
        UnsupportedError: the file is outside the folder, after its links have been followed.
        InvalidArgumentError: there is no such file, it cannot be read, or it is too large.
    """
    path = _inside(model_folder, label_filename)
    try:
        if not path.is_file():
            raise InvalidArgumentError(
                f"label_filename of model '{model_folder.name}' is '{label_filename}': there is no such file"
            )
        with path.open("rb") as file:
            content = file.read(MAX_LABEL_BYTES + 1)
    except OSError as error:
        raise _unreadable(model_folder, label_filename, str(error.strerror)) from error
    if len(content) > MAX_LABEL_BYTES:
        raise InvalidArgumentError(
            f"label_filename of model '{model_folder.name}' is '{label_filename}': the file is larger than "
            f"the maximum of {MAX_LABEL_BYTES} bytes"
        )
    # Only a line feed ends a line: `splitlines` would also part labels at rarer separators.
    lines = content.decode("utf-8", errors="replace").removesuffix("\n").split("\n")
    return tuple(line.removesuffix("\r") for line in lines) if content else ()


def _inside(model_folder: Path, label_filename: str) -> Path:
    try:
        folder = model_folder.resolve()
        path = (folder / label_filename).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name; a loop of links
        raise _unreadable(model_folder, label_filename, str(error)) from error
    if not path.is_relative_to(folder):
        raise UnsupportedError(
            f"label_filename '{label_filename}' of model '{model_folder.name}' is outside model directory"
        )
    return path


def _unreadable(model_folder: Path, label_filename: str, reason: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"label_filename of model '{model_folder.name}' is {label_filename!r}: cannot be read, {reason}"
    )
