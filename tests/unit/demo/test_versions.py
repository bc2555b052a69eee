"""Versions with rounded weights: 8 bits find what the trained ones do, 4 bits lose most of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

from naiad.cli.demo import demo
from naiad.core.errors import AlreadyExistsError, InvalidArgumentError
from naiad.demo.media import near_frames
from naiad.demo.mtcnn import build_mtcnn
from naiad.demo.repository import COARSE
from naiad.demo.versions import build_version, round_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., dict[str, Any]]

PHOTOS = 24


@pytest.fixture(scope="module")
def photos() -> Any:
    """UINT8 [24, 480, 640, 3] RGB."""
    decoded = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) for jpeg in near_frames(PHOTOS)]
    return np.stack([picture[:, :, ::-1] for picture in decoded if picture is not None])


def faces(prepare: Callable[[onnx.ModelProto], Run], model: onnx.ModelProto, photos: Any) -> int:
    return int(prepare(model)(image=photos)["count"].sum())


def test_eight_bits_find_every_face_and_four_bits_lose_most(
    tmp_path: Path, prepare: Callable[[onnx.ModelProto], Run], photos: Any
) -> None:
    found = {
        bits: faces(prepare, onnx.load(build_version(tmp_path / str(bits), bits)), photos) for bits in (8, 4)
    }
    assert faces(prepare, build_mtcnn(COARSE), photos) == PHOTOS
    assert found[8] == PHOTOS
    assert 0 < found[4] < PHOTOS / 2


def test_a_version_is_the_same_each_time_and_its_interface_is_version_1s(tmp_path: Path) -> None:
    first, again = (build_version(tmp_path / name, 8) for name in ("a", "deep/b"))
    assert first.read_bytes() == again.read_bytes()
    graph, trained = onnx.load(first).graph, build_mtcnn(COARSE).graph
    assert (list(graph.input), list(graph.output)) == (list(trained.input), list(trained.output))


def test_each_tensor_of_weights_has_so_many_values_and_the_rest_stays() -> None:
    """Slopes and biases are no weights: they are few, and rounding them would cost more than it shows."""
    model, trained = build_mtcnn(COARSE), build_mtcnn(COARSE)
    round_weights(model, 3)
    weights = {node.input[1] for node in model.graph.node if node.op_type in {"Conv", "Gemm"}}
    assert len(weights) > 10
    for rounded, before in zip(model.graph.initializer, trained.graph.initializer, strict=True):
        values, old = numpy_helper.to_array(rounded), numpy_helper.to_array(before)
        if rounded.name in weights:
            assert len(np.unique(values)) <= 7
            np.testing.assert_allclose(values, old, atol=float(np.abs(old).max()) / 3 / 2 * 1.001)
        else:
            np.testing.assert_array_equal(values, old)


@pytest.mark.parametrize("bits", [1, 17])
def test_bits_out_of_range_are_refused_before_anything_is_written(tmp_path: Path, bits: int) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"bits is {bits}, it must lie between 2 and 16"):
        build_version(tmp_path / "2", bits)
    assert not (tmp_path / "2").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"somebody's")
    with pytest.raises(AlreadyExistsError, match="is not empty"):
        build_version(tmp_path, 8)
    assert (tmp_path / "model.onnx").read_bytes() == b"somebody's"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgumentError, match=r"cannot write '.*file/2/model.onnx': Not a directory"):
        build_version(tmp_path / "file" / "2", 8)


def test_the_commands_write_what_they_say(tmp_path: Path) -> None:
    """`naiad demo version` and `naiad demo photos`, as the walk-through calls them."""
    runner = CliRunner()
    said = runner.invoke(demo, ["version", str(tmp_path / "2"), "--bits", "4"])
    assert (said.exit_code, (tmp_path / "2/model.onnx").stat().st_size > 2_000_000) == (0, True)
    assert "wrote" in said.output
    said = runner.invoke(demo, ["photos", str(tmp_path / "photos"), "--count", "3"])
    written = sorted((tmp_path / "photos").iterdir())
    assert (said.exit_code, [path.name for path in written]) == (0, [f"photo-0{n}.jpg" for n in range(3)])
    assert [path.read_bytes() for path in written] == list(near_frames(3))
