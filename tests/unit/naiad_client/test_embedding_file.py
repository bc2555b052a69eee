"""Files of embeddings: what was written is read, and what is damaged is told by its line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from naiad_client.embedding_file import (
    EmbeddingHeader,
    StoredFace,
    StoredPicture,
    header_line,
    picture_line,
    read_embeddings,
)

if TYPE_CHECKING:
    from pathlib import Path

HEADER = EmbeddingHeader("abc", "faces", "2", finds_faces=True)


def picture(path: str, *values: float) -> StoredPicture:
    return StoredPicture(
        path,
        "0" * 32,
        [StoredFace(np.array([value, -value], np.float32), {"score": value}) for value in values],
    )


def write(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"".join(lines))
    return path


def test_what_was_written_is_read_and_the_last_line_of_a_picture_counts(tmp_path: Path) -> None:
    """Vectors bit for bit, also from names that are no UTF-8."""
    odd = b"caf\xe9/\xff.jpg".decode("utf-8", "surrogateescape")
    lines = [
        picture_line(each) for each in (picture("a.jpg", 0.1), picture(odd), picture("a.jpg", 0.2, 1 / 3))
    ]
    header, pictures = read_embeddings(write(tmp_path / "file", header_line(HEADER), *lines))
    assert header == HEADER
    assert list(pictures) == ["a.jpg", odd]
    assert pictures[odd].faces == []
    first, second = pictures["a.jpg"].faces
    assert first.embedding.tolist() == np.array([0.2, -0.2], np.float32).tolist()
    assert second.embedding.tolist() == np.array([1 / 3, -1 / 3], np.float32).tolist()
    assert first.place == {"score": 0.2}
    assert second.embedding.dtype == np.float32


def test_a_last_line_that_was_cut_short_does_not_count(tmp_path: Path) -> None:
    lines = [header_line(HEADER), picture_line(picture("a.jpg", 1)), picture_line(picture("b.jpg", 2))[:-1]]
    assert list(read_embeddings(write(tmp_path / "file", *lines)).pictures) == ["a.jpg"]
    assert read_embeddings(write(tmp_path / "empty")) == (None, {})


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([b"hello\n"], "line 1 of '.*' is none of a file of embeddings"),
        ([b"no line at all"], "line 1"),
        ([b'{"format": "else"}\n'], "its format is 'else', not 'naiad-embeddings'"),
        ([header_line(HEADER).replace(b'"format_version":1', b'"format_version":2')], "its version is 2"),
        ([header_line(HEADER), b"{}\n", picture_line(picture("a", 1))], "line 2 .* 'path'"),
        ([header_line(HEADER), picture_line(picture("a", 1)).replace(b"=", b"?")], "line 2"),
    ],
)
def test_what_is_no_such_file_is_told_by_its_line(tmp_path: Path, lines: list[bytes], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_embeddings(write(tmp_path / "file", *lines))
