"""What a version computes with: one digest over its files, the same wherever they lie."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.onnx_models import add_sub, info, model

from naiad.core.errors import UnavailableError
from naiad.runtime.graph import prepare_model
from naiad.runtime.weights import WeightDigests, weight_file

if TYPE_CHECKING:
    from pathlib import Path


def digest(path: Path) -> str:
    return WeightDigests().digest(prepare_model(path, ()).files)


def write(folder: Path, content: bytes) -> Path:
    folder.mkdir(parents=True)
    path = folder / "model.onnx"
    path.write_bytes(content)
    return path


def write_with_data(folder: Path, value: float, name: str = "weights.bin") -> Path:
    """A model whose only weights, 64 times `value`, lie in a file beside it."""
    weights = numpy_helper.from_array(np.full(64, value, np.float32), "weights")
    built = model(
        [helper.make_node("Add", ["x", "weights"], ["y"])],
        [info("x", TensorProto.FLOAT, ["N", 64])],
        [info("y", TensorProto.FLOAT, ["N", 64])],
        [weights],
    )
    path = write(folder, b"")
    onnx.save(built, str(path), save_as_external_data=True, location=name, size_threshold=0)
    return path


def test_a_digest_is_of_the_content_and_not_of_the_place(tmp_path: Path) -> None:
    """32 hexadecimal digits: the same for a copy of another name, time and owner, another for one byte more."""
    content = add_sub().SerializeToString()
    first = digest(write(tmp_path / "a", content))
    again = write(tmp_path / "b" / "c", content)
    os.utime(again, (1, 1))
    assert digest(again) == first
    assert len(first) == 32
    assert int(first, 16)
    changed = add_sub()
    changed.doc_string = "another"
    assert digest(write(tmp_path / "d", changed.SerializeToString())) != first


def test_weights_in_files_of_their_own_count(tmp_path: Path) -> None:
    """The model files are the same byte for byte; a file that the model does not name is none of it."""
    one, two = write_with_data(tmp_path / "one", 1.0), write_with_data(tmp_path / "two", 2.0)
    assert one.read_bytes() == two.read_bytes()
    first = digest(one)
    assert first != digest(two)
    (tmp_path / "one" / "notes.txt").write_text("nothing that is computed with")
    assert digest(one) == first
    assert digest(write_with_data(tmp_path / "three", 1.0)) == first


def test_a_file_that_is_what_it_was_is_read_once(tmp_path: Path) -> None:
    """Told by size, time and inode: with all three faked, another content keeps the digest of the first."""
    path = write(tmp_path / "a", add_sub().SerializeToString())
    digests, stamp = WeightDigests(), weight_file(path)
    first = digests.digest([stamp])
    with path.open("r+b") as file:
        file.write(b"another")
    os.utime(path, ns=(stamp.modified_ns, stamp.modified_ns))
    assert digests.digest([weight_file(path)]) == first
    assert WeightDigests().digest([weight_file(path)]) != first


def test_a_file_that_changes_while_the_model_is_loaded_is_refused(tmp_path: Path) -> None:
    """The session was made of the old content, so that the new one's digest would be a lie."""
    path = write(tmp_path / "a", add_sub().SerializeToString())
    files = prepare_model(path, ()).files
    path.write_bytes(b"longer than it was" * 1000)
    with pytest.raises(UnavailableError, match=r"model\.onnx' has changed while the model was loaded"):
        WeightDigests().digest(files)
    path.unlink()
    with pytest.raises(UnavailableError, match="unable to read"):
        WeightDigests().digest(files)


def test_a_file_too_large_to_be_parsed_is_hashed_all_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "a", add_sub().SerializeToString())
    unread = prepare_model(path, (), max_parsed_bytes=1).files
    assert WeightDigests().digest(unread) == digest(path)
