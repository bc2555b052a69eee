"""What is read off a model file beside its inputs and outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from onnx import TensorProto, helper
from support.onnx_models import identity, info, model

from naiad.runtime.graph_facts import read_facts

if TYPE_CHECKING:
    from pathlib import Path

    import onnx


def written(folder: Path, built: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(built.SerializeToString())
    return path


def chain(*operators: str) -> onnx.ModelProto:
    """X through operators of one input, or of two with a constant."""
    nodes, name = [], "X"
    for index, operator in enumerate(operators):
        inputs = [name, "half"] if operator in {"Sub", "Mul", "Add", "Div"} else [name]
        name = "Y" if index == len(operators) - 1 else f"h{index}"
        nodes.append(helper.make_node(operator, inputs, [name]))
    half = helper.make_tensor("half", TensorProto.FLOAT, [], [0.5])
    value = [info(name, TensorProto.FLOAT, [1, 3]) for name in "XY"]
    return model(nodes, value[:1], value[1:], [half])


@pytest.mark.parametrize(
    ("operators", "expected"),
    [
        (["Sub", "Mul", "Relu"], True),
        (["Identity", "Div", "Relu"], True),
        (["Relu", "Sub", "Mul"], False),
        (["Sigmoid", "Mul"], False),
    ],
)
def test_a_graph_normalises_if_arithmetic_comes_first(
    operators: list[str], expected: bool, tmp_path: Path
) -> None:
    facts = read_facts(written(tmp_path, chain(*operators)))
    assert facts is not None
    assert facts.normalises is expected


def test_the_exporters_texts_are_read(tmp_path: Path) -> None:
    built = identity(TensorProto.FLOAT, [1])
    helper.set_model_props(built, {"task": "pose", "kpt_shape": "[5, 3]"})
    facts = read_facts(written(tmp_path, built))
    assert facts is not None
    assert facts.metadata == {"task": "pose", "kpt_shape": "[5, 3]"}


def test_what_is_no_model_tells_nothing(tmp_path: Path) -> None:
    assert read_facts(tmp_path / "absent.onnx") is None
    (tmp_path / "junk.onnx").write_bytes(b"\xff\xff\xff")
    assert read_facts(tmp_path / "junk.onnx") is None
