"""A folder's stamp rises with what is in it, and each part of it with its own files."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from naiad.repository.layout import ModelFolder, read_folder
from naiad.repository.stamps import FolderStamp, read_stamp

if TYPE_CHECKING:
    from pathlib import Path

LATER_NS = time.time_ns() + 3_600_000_000_000
"""Later than any file that a test has just written."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("m/1", "m/2/data", "m/configs", "m/warmup"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("m/config.pbtxt", "m/labels.txt", "m/1/model.onnx", "m/2/data/w.bin", "m/configs/a.pbtxt"):
        (tmp_path / name).touch()
    return tmp_path / "m"


def _stamp(folder: Path) -> FolderStamp:
    return read_stamp(read_folder(folder))


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ("1/model.onnx", {1}),
        ("2/data/w.bin", {2}),
        ("2", {2}),
        ("labels.txt", {"shared"}),
        ("warmup", {"shared"}),
        ("config.pbtxt", set()),
        ("configs/a.pbtxt", set()),
        (".", set()),
    ],
)
def test_a_change_shows_in_the_whole_and_in_its_own_part_only(
    folder: Path, changed: str, parts: set[int | str]
) -> None:
    before = _stamp(folder)
    os.utime(folder / changed, ns=(LATER_NS, LATER_NS))
    after = _stamp(folder)
    assert after.modified == LATER_NS > before.modified
    assert (after.shared == LATER_NS) == ("shared" in parts)
    for version in (1, 2):
        assert (after.versions[version] == LATER_NS) == (version in parts)


def test_a_file_put_back_with_an_old_time_is_still_seen_by_its_ctime(folder: Path) -> None:
    os.utime(folder / "1" / "model.onnx", ns=(1, 1))
    status = (folder / "1" / "model.onnx").stat()
    assert status.st_mtime_ns == 1
    assert _stamp(folder).versions[1] >= status.st_ctime_ns > 1


def test_links_are_followed_and_circles_and_dangling_ones_end(folder: Path, tmp_path: Path) -> None:
    """Stores such as mounted config maps replace what a link leads to, not the link."""
    (tmp_path / "blob").touch()
    (folder / "1" / "linked").symlink_to(tmp_path / "blob")
    (folder / "1" / "circle").symlink_to(folder)
    (folder / "1" / "gone").symlink_to("nowhere")
    os.utime(tmp_path / "blob", ns=(LATER_NS, LATER_NS))
    assert _stamp(folder).versions[1] == LATER_NS


def test_a_folder_that_is_gone_has_no_stamp(tmp_path: Path) -> None:
    assert read_stamp(ModelFolder("m", tmp_path / "m", (1,))) == FolderStamp()
