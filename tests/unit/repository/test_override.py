"""Files of a load request land in a private folder, all inside it, or are refused."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest

from naiad.core.errors import InvalidArgumentError
from naiad.repository.override import MAX_FILES, OverrideFolder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary directories are made in these tests."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_folder_has_the_models_name_and_the_given_files_only(temporary: Path) -> None:
    files = {"1/model.onnx": b"one", "1/./data/../w.bin": b"two", "labels.txt": b""}
    folder = OverrideFolder.create("m", files)
    assert folder.path.name == "m"
    assert _files(folder.path) == {"1/model.onnx": b"one", "1/w.bin": b"two", "labels.txt": b""}
    assert folder.path.parent.stat().st_mode & 0o077 == 0  # nobody else may look in, or put a link there
    folder.close()
    folder.close()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    "file",
    [
        "../x",
        "../../../x",
        "1/../../x",
        "1/../../m2/x",
        "/abs",
        "//abs",
        "/etc/../x",
        "",
        ".",
        "1/..",
        "..",
        "a\0b",
    ],
)
def test_a_path_that_is_not_inside_is_refused_and_nothing_is_left(temporary: Path, file: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is not inside the model's folder"):
        OverrideFolder.create("m", {"1/model.onnx": b"", file: b"x"})
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("m", {"A" * 256: b""}, "File name too long"),
        ("m", {"/".join(["a" * 200] * 40): b""}, "File name too long"),
        ("m" * 256, {"1/model.onnx": b""}, "File name too long"),
        ("m", {"1": b"", "1/model.onnx": b""}, "File exists|Not a directory"),
        ("m", {"1/model.onnx": b"", "1": b""}, "Is a directory"),
        ("m", {"1/a": b"", "1//a": b""}, "two files for model 'm' have the same path"),
        ("m", dict.fromkeys(map(str, range(MAX_FILES + 1)), b""), "1001 files for model 'm', at most 1000"),
        (".", {"1/model.onnx": b""}, "model name '.' is not a folder's name"),
        ("..", {"1/model.onnx": b""}, "is not a folder's name"),
        ("a/b", {"1/model.onnx": b""}, "is not a folder's name"),
        ("m\0", {"1/model.onnx": b""}, "is not a folder's name"),
    ],
)
def test_what_no_disk_can_hold_is_a_domain_error_and_nothing_is_left(
    temporary: Path, name: str, files: dict[str, bytes], message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        OverrideFolder.create(name, files)
    assert list(temporary.iterdir()) == []
