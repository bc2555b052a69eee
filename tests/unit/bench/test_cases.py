"""What is sent: the same tensors in every process, made up for the user's models from their inputs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from bench.cases import FRAMES, Case, CaseFolder
from bench.published import PUBLISHED, Published, assets_folder
from onnx import ModelProto, TensorProto, helper
from support.onnx_models import add_sub, identity, info, model

from naiad.core.errors import InvalidArgumentError


def user_case(tmp_path: Path, built: ModelProto) -> Case:
    """The case that a user's model becomes."""
    models = tmp_path / "models"
    models.mkdir()
    (models / "mine.onnx").write_bytes(built.SerializeToString())
    return CaseFolder(tmp_path / "run").build(models)[-1]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """Those that are always there."""
    return CaseFolder(tmp_path_factory.mktemp("run")).build()


def test_every_case_is_a_model_of_the_repository(cases: list[Case]) -> None:
    for case in cases:
        assert Path(case.path).is_file()
        assert (Path(case.path).parents[1] / "config.pbtxt").is_file()
        for arrays in case.requests():
            assert {name: (str(array.dtype), array.shape) for name, array in arrays.items()} == case.inputs


def test_a_stream_and_its_limit_see_the_same_frames(cases: list[Case]) -> None:
    """A detector's work depends on the picture, so one frame again and again would be another measurement."""
    [case] = [case for case in cases if case.wire == "frames"]
    frames = [arrays["image"].tobytes() for arrays in case.requests()]
    assert len(set(frames)) == FRAMES


def test_tensors_are_the_same_after_the_way_to_another_process(cases: list[Case]) -> None:
    [case] = [case for case in cases if case.key == "add_sub"]
    again = Case(**asdict(case))
    for name, array in case.requests()[0].items():
        np.testing.assert_array_equal(array, again.requests()[0][name])
        assert array.tobytes() == (Path(case.data) / name).read_bytes()


def test_the_batch_dimension_is_not_part_of_a_row() -> None:
    inputs: dict[str, tuple[str, tuple[int, ...]]] = {"x": ("float32", (1, 3, 8))}
    assert Case("k", "n", "m", "p", inputs, "d", max_batch=4).row_shapes == {"x": ("float32", (3, 8))}
    assert Case("k", "n", "m", "p", inputs, "d").row_shapes == inputs


def test_what_is_not_measured_is_not_loaded(tmp_path: Path) -> None:
    folder = CaseFolder(tmp_path)
    built = folder.build()
    folder.keep([case for case in built if case.key == "add_sub_stream"])
    assert [path.name for path in folder.repository.iterdir()] == ["add_sub"]


def test_a_users_model_with_a_batch_dimension(tmp_path: Path) -> None:
    case = user_case(tmp_path, add_sub())
    assert case.inputs == {"INPUT0": ("int32", (1, 16)), "INPUT1": ("int32", (1, 16))}
    assert case.max_batch == 4
    assert Path(case.path).is_file()


def test_a_users_model_of_fixed_shape_is_not_batched(tmp_path: Path) -> None:
    case = user_case(tmp_path, identity(TensorProto.FLOAT, [1, 3, 8, 8]))
    assert case.inputs == {"INPUT0": ("float32", (1, 3, 8, 8))}
    assert case.max_batch == 0


def test_weights_among_the_inputs_are_not_sent(tmp_path: Path) -> None:
    built = model(
        [helper.make_node("Add", ["X", "W"], ["Y"])],
        [info("X", TensorProto.FLOAT, ["N", 2]), info("W", TensorProto.FLOAT, [2])],
        [info("Y", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor("W", TensorProto.FLOAT, [2], [1.0, 2.0])],
    )
    assert list(user_case(tmp_path, built).inputs) == ["X"]


def test_a_model_whose_input_cannot_be_made_up_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"input 'INPUT0' of 'mine\.onnx'"):
        user_case(tmp_path, identity(TensorProto.FLOAT, ["N", 3, "H", "W"]))


def test_a_folder_without_models_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="no \\*\\.onnx file"):
        CaseFolder(tmp_path / "run").build(tmp_path)


def test_a_folder_of_published_models_that_lacks_one_is_an_error_only_where_it_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidArgumentError, match=f"lacks '{PUBLISHED[0].file}'"):
        assets_folder(tmp_path)
    monkeypatch.delenv("NAIAD_ASSETS", raising=False)
    monkeypatch.setattr("bench.published.ROOT", tmp_path / "checkout")
    assert assets_folder(None) is None


@pytest.mark.parametrize("stretch", [True, False])
def test_a_picture_becomes_a_tensor_as_its_model_wants_it(stretch: bool, tmp_path: Path) -> None:
    """One blue picture, twice as wide as high: its colours in the right planes, scaled, the rest black."""
    blue = np.zeros((10, 20, 3), np.uint8)
    blue[..., 0] = 200
    cv2.imwrite(str(tmp_path / "blue.png"), blue)
    entry = Published(
        "k",
        "t",
        "f",
        "x",
        (1, 3, 8, 8),
        "blue.png",
        False,
        stretch=stretch,
        mean=(0, 0, 100),
        deviation=(1, 1, 2),
    )
    tensor = entry.tensor(tmp_path)
    assert (tensor.shape, str(tensor.dtype)) == ((1, 3, 8, 8), "float32")
    assert tensor[0, :, 0, 0].tolist() == [0, 0, 50]
    assert tensor[0, :, 7, 7].tolist() == ([0, 0, 50] if stretch else [0, 0, -50])
