"""What is sent: the same tensors in every process, made up for the user's models from their inputs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np
import pytest
from bench.cases import FRAMES, Case, build_cases
from onnx import TensorProto, helper
from support.onnx_models import add_sub, identity, info, model

from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pathlib import Path

    import onnx


def user_case(tmp_path: Path, built: onnx.ModelProto) -> Case:
    """The case that a user's model becomes."""
    models = tmp_path / "models"
    models.mkdir()
    (models / "mine.onnx").write_bytes(built.SerializeToString())
    return build_cases(tmp_path / "repository", models)[-1]


def test_every_case_is_a_model_of_the_repository(tmp_path: Path) -> None:
    for case in build_cases(tmp_path, None):
        assert case.path.startswith(str(tmp_path / case.model))
        assert (tmp_path / case.model / "config.pbtxt").is_file()
        for arrays in case.requests():
            assert {name: (str(array.dtype), array.shape) for name, array in arrays.items()} == case.inputs


def test_a_stream_and_its_limit_see_the_same_frames(tmp_path: Path) -> None:
    """A detector's work depends on the picture, so one frame again and again would be another measurement."""
    [case] = [case for case in build_cases(tmp_path, None) if case.stream]
    frames = [arrays["image"].tobytes() for arrays in case.requests()]
    assert len(set(frames)) == FRAMES


def test_tensors_are_the_same_after_the_way_to_another_process() -> None:
    case = Case("c", "m", "p", {"x": ("float32", (1, 4)), "i": ("int64", (1, 2))})
    again = Case(**asdict(case))
    for name, array in case.requests()[0].items():
        np.testing.assert_array_equal(array, again.requests()[0][name])


def test_a_users_model_with_a_batch_dimension(tmp_path: Path) -> None:
    case = user_case(tmp_path, add_sub())
    assert case.inputs == {"INPUT0": ("int32", (1, 16)), "INPUT1": ("int32", (1, 16))}
    assert case.max_batch == 4
    assert (tmp_path / "repository" / "mine" / "1" / "model.onnx").is_file()


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
        build_cases(tmp_path / "repository", tmp_path)
