"""Labels of classes: one a line, from inside the model's folder only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from naiad.core.errors import InvalidArgumentError, UnsupportedError
from naiad.repository.labels import MAX_LABEL_BYTES, read_labels

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    return made


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        (b"", ()),
        (b"\n", ("",)),
        (b"zero\none\n", ("zero", "one")),
        (b"zero\none", ("zero", "one")),
        (b"zero\n\ntwo\n\n", ("zero", "", "two", "")),
        (b"zero\r\none\r\n", ("zero", "one")),
        ("caf\u00e9\na\u2028b\x0bc\n".encode(), ("café", "a\u2028b\x0bc")),
        (b"\xff\xfe\nok\n", ("\ufffd\ufffd", "ok")),
    ],
)
def test_the_line_is_the_index(folder: Path, content: bytes, labels: tuple[str, ...]) -> None:
    (folder / "labels.txt").write_bytes(content)
    assert read_labels(folder, "labels.txt") == labels


def test_links_inside_the_folder_are_followed_and_the_folder_may_be_one(folder: Path, tmp_path: Path) -> None:
    """As mounted config volumes lay their files out."""
    (folder / "data").mkdir()
    (folder / "data" / "labels.txt").write_text("a\n")
    (folder / "labels.txt").symlink_to("data/labels.txt")
    link = tmp_path / "link"
    link.symlink_to(folder)
    assert read_labels(link, "labels.txt") == ("a",)


@pytest.mark.parametrize(
    "name", ["../outside.txt", "../model2/labels.txt", "sub/../../outside.txt", "/etc/passwd", "link", ".."]
)
def test_a_file_outside_the_folder_is_never_read(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "outside.txt").write_text("secret\n")
    (tmp_path / "model2").mkdir()
    (tmp_path / "model2" / "labels.txt").write_text("secret\n")
    (folder / "sub").mkdir()
    (folder / "link").symlink_to(tmp_path / "outside.txt")
    with pytest.raises(UnsupportedError) as error:
        read_labels(folder, name)
    assert error.value.message == f"label_filename '{name}' of model 'model' is outside model directory"


@pytest.mark.parametrize("name", ["missing.txt", ".", "sub", "fifo", "dangling", "labels.txt/x"])
def test_what_is_no_file_is_named(folder: Path, name: str) -> None:
    """A pipe above all: opening it would wait for ever."""
    (folder / "sub").mkdir()
    (folder / "labels.txt").touch()
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "fifo")
    with pytest.raises(InvalidArgumentError, match="of model 'model' is .* no such file") as error:
        read_labels(folder, name)
    assert f"'{name}'" in error.value.message


@pytest.mark.parametrize("name", ["a\0b", "loop", "x" * 300])
def test_a_name_that_cannot_be_looked_up_is_an_error_of_the_config(folder: Path, name: str) -> None:
    (folder / "loop").symlink_to("loop")
    with pytest.raises(InvalidArgumentError, match="cannot be read|no such file"):
        read_labels(folder, name)


def test_a_file_above_the_limit_is_refused(folder: Path) -> None:
    path = folder / "labels.txt"
    path.touch()
    os.truncate(path, MAX_LABEL_BYTES + 1)
    with pytest.raises(InvalidArgumentError, match=f"'labels.txt': .* {MAX_LABEL_BYTES} bytes"):
        read_labels(folder, "labels.txt")
