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


def test_an_experiment_is_no_change_of_its_model(folder: Path) -> None:
    """Neither the file nor what writers put beside it for a while, nor that the folder has a new entry."""
    os.utime(folder, ns=(1, 1))
    before = _stamp(folder)
    for name in ("experiment.json", "experiment.decisions", ".experiment.json.swp"):
        (folder / name).write_text("{}")
    after = _stamp(folder)
    assert after.experiment > 0 == before.experiment
    assert (after.shared, after.names, after.content) == (before.shared, before.names, before.content)
    assert after.modified <= before.modified
    (folder / "labels.txt").unlink()
    assert _stamp(folder).names == ("1", "2", "config.pbtxt", "configs", "warmup")


def test_the_content_is_the_same_until_anything_below_is_not(folder: Path, tmp_path: Path) -> None:
    """Also what a link leads to, and a time that goes back."""
    (tmp_path / "blob").write_text("x")
    (folder / "1" / "linked").symlink_to(tmp_path / "blob")
    seen = {_stamp(folder).content}
    assert _stamp(folder).content in seen

    def changed() -> bool:
        content = _stamp(folder).content
        is_new = content not in seen
        seen.add(content)
        return is_new

    os.utime(folder / "2" / "data" / "w.bin", ns=(1, 1))
    assert changed()
    (tmp_path / "blob").write_text("xy")
    assert changed()
    (folder / "2" / "data" / "w.bin").rename(folder / "2" / "data" / "v.bin")
    assert changed()


def test_a_version_that_comes_after_the_folder_was_read_is_no_file_of_all_versions(folder: Path) -> None:
    """Or it would have every version loaded anew; nor is one without its marker."""
    read = read_folder(folder)
    (folder / "3").mkdir()
    os.utime(folder / "3", ns=(LATER_NS, LATER_NS))
    assert read_stamp(read).shared < LATER_NS
    (folder / "1" / ".ready").touch()
    marked = read_folder(folder, marker=".ready")
    stamp = read_stamp(marked)
    assert (marked.versions, marked.unmarked) == ((1,), (2, 3))
    assert (set(stamp.versions), stamp.shared < LATER_NS) == ({1}, True)
