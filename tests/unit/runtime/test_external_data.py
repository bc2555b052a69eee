"""Weights in files of their own are read from beside the model and from nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.onnx_models import info, model, weights_as_inputs
from support.runtime import CPU_PLAN, config

from naiad.core.errors import InvalidArgumentError
from naiad.runtime.external_data import check_external_data
from naiad.runtime.graph import prepare_model
from naiad.runtime.onnx_session import open_session

if TYPE_CHECKING:
    from pathlib import Path


def _external(location: str, name: str = "W") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def _with_weights(location: str) -> onnx.ModelProto:
    """Y = X + W, W in a file."""
    built = model(
        [helper.make_node("Add", ["X", "W"], ["Y"])],
        [info("X", TensorProto.FLOAT, ["N", 4])],
        [info("Y", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor("W", TensorProto.FLOAT, [4], [1.0] * 4)],
    )
    built.graph.initializer[0].CopyFrom(_external(location))
    return built


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A version's folder with weights in it, beside it, and linked from it."""
    folder = tmp_path / "m" / "1"
    (folder / "data").mkdir(parents=True)
    weights = np.ones(4, np.float32).tobytes()
    for path in (folder / "w.bin", folder / "data" / "w.bin", tmp_path / "secret.bin"):
        path.write_bytes(weights)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "dir").symlink_to(tmp_path)
    (folder / "inside.bin").symlink_to("w.bin")
    (folder / "loop").symlink_to("loop")
    return folder


@pytest.mark.parametrize("location", ["w.bin", "data/w.bin", "data/../w.bin", "inside.bin"])
def test_weights_beside_the_model_are_read(folder: Path, location: str) -> None:
    (folder / "model.onnx").write_bytes(_with_weights(location).SerializeToString())
    prepared = prepare_model(folder / "model.onnx", ())
    session = open_session(prepared, config(), CPU_PLAN, 1, 1)
    assert session.run({"X": np.zeros((1, 4), np.float32)}, ["Y"])["Y"].tolist() == [[1.0] * 4]


@pytest.mark.parametrize(
    "location",
    [
        "../../secret.bin",
        "{root}/secret.bin",
        "link.bin",
        "dir/secret.bin",
        "loop",
        "a\0b",
        "/dev/zero",
    ],
)
def test_weights_elsewhere_are_refused_by_name(folder: Path, tmp_path: Path, location: str) -> None:
    location = location.format(root=tmp_path)
    (folder / "model.onnx").write_bytes(_with_weights(location).SerializeToString())
    with pytest.raises(InvalidArgumentError, match="external data .* of tensor 'W' is not inside"):
        prepare_model(folder / "model.onnx", ())


def test_a_tensor_is_found_wherever_a_model_can_hold_one(tmp_path: Path) -> None:
    node = helper.make_node("Constant", [], ["c"], value=_external("../x"))
    inner = helper.make_graph([node], "inner", [], [])
    nested = helper.make_node(
        "If", ["b"], ["d"], then_branch=inner, else_branch=helper.make_graph([], "e", [], [])
    )
    sparse = onnx.SparseTensorProto(values=_external("../x"), dims=[4])
    function = onnx.FunctionProto(name="f", node=[node])
    graphs = {
        "node": helper.make_graph([node], "g", [], []),
        "subgraph": helper.make_graph([nested], "g", [], []),
        "sparse": onnx.GraphProto(sparse_initializer=[sparse]),
    }
    models = [onnx.ModelProto(graph=graph) for graph in graphs.values()]
    for built in (*models, onnx.ModelProto(functions=[function])):
        with pytest.raises(InvalidArgumentError, match=r"external data '\.\./x'"):
            check_external_data(built, tmp_path)
    check_external_data(weights_as_inputs(), tmp_path)
