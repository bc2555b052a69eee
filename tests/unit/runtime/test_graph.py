"""Weights are taken off the graph inputs, nothing else is changed, and a bad file is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.onnx_models import add_sub, info, unchecked, weights_as_inputs
from support.runtime import CPU_PLAN, config, save

from naiad.core.errors import NaiadError, UnavailableError
from naiad.runtime.graph import prepare_model
from naiad.runtime.onnx_session import open_session

if TYPE_CHECKING:
    from pathlib import Path


def test_weights_leave_the_inputs_and_nothing_else_changes(tmp_path: Path) -> None:
    published = weights_as_inputs()
    prepared = prepare_model(save(published, tmp_path), ())
    assert prepared.removed == ("W",)
    assert isinstance(prepared.source, bytes)
    changed = onnx.ModelProto.FromString(prepared.source)
    assert [value.name for value in changed.graph.input] == ["X"]
    changed.graph.input.append(published.graph.input[1])
    assert changed == published


def test_a_declared_input_stays_overridable(tmp_path: Path) -> None:
    path = save(weights_as_inputs(), tmp_path)
    prepared = prepare_model(path, {"X", "W"})
    assert prepared.removed == ()
    assert prepared.source == str(path)


@pytest.mark.parametrize("built", [add_sub(), weights_as_inputs(ir_version=3)], ids=["plain", "old IR"])
def test_a_model_that_needs_nothing_is_handed_on_by_path(tmp_path: Path, built: onnx.ModelProto) -> None:
    path = save(built, tmp_path)
    assert prepare_model(path, ()).source == str(path)


@pytest.mark.parametrize(
    ("operator", "expected"),
    [("Relu", True), ("NonZero", False), ("Compress", False), ("RoiAlign", False), ("HannWindow", False)],
)
def test_work_that_values_decide_about_is_known_by_its_operators(
    tmp_path: Path, operator: str, *, expected: bool
) -> None:
    """One region of interest can span a billion samples, and any number can be a window's length."""
    node = helper.make_node(operator, ["X"], ["Y"])
    tensor = [info(name, TensorProto.FLOAT, [1]) for name in "XY"]
    graph = helper.make_graph([node], "g", tensor[:1], tensor[1:])
    prepared = prepare_model(save(helper.make_model(graph), tmp_path), ())
    assert prepared.is_even is expected


def test_a_large_file_is_handed_on_unread(tmp_path: Path) -> None:
    path = save(weights_as_inputs(), tmp_path)
    assert prepare_model(path, (), max_parsed_bytes=10).source == str(path)


def test_the_engines_own_format_is_handed_on(tmp_path: Path) -> None:
    path = tmp_path / "model.ort"
    path.write_bytes(b"\x00\x00\x00\x00ORTM\x00")
    assert prepare_model(path, ()).source == str(path)


def test_external_weights_of_a_changed_model_are_still_found(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(weights_as_inputs(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    prepared = prepare_model(path, ())
    assert prepared.removed == ("W",)
    session = open_session(prepared, config(), CPU_PLAN, 1, 1)
    result = session.run({"X": np.zeros((1, 4), np.float32)}, ["Y"])
    np.testing.assert_array_equal(result["Y"], np.full((1, 4), 2, np.float32))


def test_unknown_ranks_are_told_from_scalars(tmp_path: Path) -> None:
    built = unchecked(
        [helper.make_node("Identity", ["A"], ["B"]), helper.make_node("Identity", ["C"], ["D"])],
        [info("A", TensorProto.FLOAT, None), info("C", TensorProto.FLOAT, [])],
        [info("B", TensorProto.FLOAT, None), info("D", TensorProto.FLOAT, [])],
    )
    assert prepare_model(save(built, tmp_path), ()).unranked == {"A", "B"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<html>not found</html>", "Protobuf parsing failed"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Protobuf parsing failed"),
        (weights_as_inputs().SerializeToString()[:-20], "Protobuf parsing failed"),
        (b"\x08\x09", "no graph with outputs"),
    ],
    ids=["empty", "html", "pointer", "truncated", "header only"],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(NaiadError, match=message) as caught:
        prepare_model(path, ())
    assert str(path) in caught.value.message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"none\.onnx.*No such file"):
        prepare_model(tmp_path / "none.onnx", ())


@pytest.mark.assets
def test_published_ultraface_folds_to_the_same_results(assets: Path) -> None:
    """Taking 244 weights off the inputs of a published detector changes speed, not numbers."""
    path = assets / "models" / "ultraface_version-RFB-320.onnx"
    prepared = prepare_model(path, ())
    assert len(prepared.removed) == 244
    kept = prepare_model(path, {value.name for value in onnx.load(path).graph.input})
    picture = np.random.default_rng(7).standard_normal((1, 3, 240, 320), np.float32)
    names = ["scores", "boxes"]
    changed, published = (
        open_session(each, config(), CPU_PLAN, 1, 1).run({"input": picture}, names)
        for each in (prepared, kept)
    )
    for name in names:
        assert np.allclose(changed[name], published[name], atol=1e-4)
