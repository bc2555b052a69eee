"""Tiny ONNX models that tests build for themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import NodeProto, ValueInfoProto


def info(name: str, elem_type: int, dims: Sequence[int | str | None] | None) -> ValueInfoProto:
    """A graph input or output; None or a string is a dynamic dimension, dims=None an unknown rank."""
    return helper.make_tensor_value_info(name, elem_type, dims)


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    initializers: Sequence[TensorProto] = (),
) -> onnx.ModelProto:
    """A checked model of one graph."""
    graph = helper.make_graph(list(nodes), "test", list(inputs), list(outputs), list(initializers))
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(built)
    return built


def add_sub(elem_type: int = TensorProto.INT32, size: int = 16, batch: str | None = "N") -> onnx.ModelProto:
    """OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1; batched unless batch is None."""
    dims: list[int | str | None] = [batch, size] if batch else [size]
    return model(
        [
            helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
            helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"]),
        ],
        [info("INPUT0", elem_type, dims), info("INPUT1", elem_type, dims)],
        [info("OUTPUT0", elem_type, dims), info("OUTPUT1", elem_type, dims)],
    )


def identity(elem_type: int, dims: Sequence[int | str | None]) -> onnx.ModelProto:
    """OUTPUT0 = INPUT0."""
    return model(
        [helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])],
        [info("INPUT0", elem_type, dims)],
        [info("OUTPUT0", elem_type, dims)],
    )


def weights_as_inputs(ir_version: int = 9) -> onnx.ModelProto:
    """Y = X + W * 2 with W [4] = 1 listed among the graph inputs, as many published files have it."""
    built = model(
        [
            helper.make_node("Constant", [], ["two"], value_floats=[2.0, 2.0, 2.0, 2.0]),
            helper.make_node("Mul", ["W", "two"], ["doubled"]),
            helper.make_node("Add", ["X", "doubled"], ["Y"]),
        ],
        [info("X", TensorProto.FLOAT, ["N", 4]), info("W", TensorProto.FLOAT, [4])],
        [info("Y", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor("W", TensorProto.FLOAT, [4], [1.0, 1.0, 1.0, 1.0])],
    )
    built.ir_version = ir_version
    return built


def unchecked(
    nodes: Sequence[NodeProto], inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]
) -> onnx.ModelProto:
    """A model that the checker would refuse, such as one whose input has no shape."""
    graph = helper.make_graph(list(nodes), "test", list(inputs), list(outputs))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


SLOW_SIZE = 400
"""Rows and columns of the slow model's input."""


def slow(steps: int = 60) -> onnx.ModelProto:
    """OUTPUT = INPUT (FP32 `[N, SLOW_SIZE, SLOW_SIZE]`) after `steps` multiplications by one, a millisecond each.

    TABLE[INDEX] is added to nothing: an INDEX beyond 0 fails the run, which no shape check can see.
    """
    nodes = [helper.make_node("Gather", ["table", "INDEX"], ["zero"])]
    last = "INPUT"
    for step in range(steps):
        nodes.append(helper.make_node("MatMul", [last, "one"], [f"step{step}"]))
        last = f"step{step}"
    nodes.append(helper.make_node("Unsqueeze", ["zero", "axis"], ["zeros"]))
    nodes.append(helper.make_node("Add", [last, "zeros"], ["OUTPUT"]))
    dims: list[int | str | None] = ["N", SLOW_SIZE, SLOW_SIZE]
    one = np.eye(SLOW_SIZE, dtype=np.float32)
    return model(
        nodes,
        [info("INPUT", TensorProto.FLOAT, dims), info("INDEX", TensorProto.INT64, ["N", 1])],
        [info("OUTPUT", TensorProto.FLOAT, dims)],
        [
            helper.make_tensor("one", TensorProto.FLOAT, one.shape, one.tobytes(), raw=True),
            helper.make_tensor("table", TensorProto.FLOAT, [1], [0.0]),
            helper.make_tensor("axis", TensorProto.INT64, [1], [2]),
        ],
    )


def looping() -> onnx.ModelProto:
    """OUTPUT0 = INPUT0 + 1 + 1 …, COUNT times (FP32 and INT64 `[1, 1]`): a run as long as the request wants."""
    value: list[int | str | None] = ["N", 1]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["value", "step"], ["next"]),
        ],
        "body",
        [
            info("turn", TensorProto.INT64, []),
            info("go", TensorProto.BOOL, []),
            info("value", TensorProto.FLOAT, value),
        ],
        [info("go_on", TensorProto.BOOL, []), info("next", TensorProto.FLOAT, value)],
    )
    return model(
        [
            helper.make_node("Squeeze", ["COUNT"], ["turns"]),
            helper.make_node("Loop", ["turns", "", "INPUT0"], ["OUTPUT0"], body=body),
        ],
        [info("INPUT0", TensorProto.FLOAT, value), info("COUNT", TensorProto.INT64, value)],
        [info("OUTPUT0", TensorProto.FLOAT, value)],
        [helper.make_tensor("step", TensorProto.FLOAT, [], [1.0])],
    )
