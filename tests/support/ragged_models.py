"""Models that take ragged batches, and the configs that describe them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper
from support.onnx_models import info, model

if TYPE_CHECKING:
    import onnx

TABLE_SIZE = 1_000
"""Values of `ragged_sum` lie below this one; a larger one fails the run, which no shape check can see."""

RAGGED_SUM_CONFIG = """
max_batch_size: 16
input [ { name: "VALUES" data_type: TYPE_INT32 dims: [ -1 ] allow_ragged_batch: true } ]
output [
  { name: "SUM" data_type: TYPE_FP32 dims: [ 1 ] },
  { name: "DOUBLED" data_type: TYPE_FP32 dims: [ -1 ] }
]
batch_input [
  {
    kind: BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO
    target_name: "BOUNDS"
    data_type: TYPE_INT32
    source_input: "VALUES"
  }
]
batch_output [
  { kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: "DOUBLED" source_input: "VALUES" }
]
"""


def ragged_sum() -> onnx.ModelProto:
    """SUM `[requests, 1]` of each request's VALUES, and DOUBLED, all values times two, end to end.

    VALUES `[total]` INT32 are looked up in a table; BOUNDS `[requests + 1]` INT32 say whose they are.
    """
    table = np.arange(TABLE_SIZE, dtype=np.float32)
    constants = [
        helper.make_tensor("TABLE", TensorProto.FLOAT, table.shape, table.tobytes(), raw=True),
        helper.make_tensor("TWO", TensorProto.FLOAT, [], [2.0]),
        helper.make_tensor("NOTHING", TensorProto.FLOAT, [1], [0.0]),
        *(helper.make_tensor(f"I{number}", TensorProto.INT64, [1], [number]) for number in (-1, 0, 1, 2**62)),
        helper.make_tensor("AXIS", TensorProto.INT64, [], [0]),
    ]
    nodes = [
        helper.make_node("Gather", ["TABLE", "VALUES"], ["looked_up"]),
        helper.make_node("Mul", ["looked_up", "TWO"], ["DOUBLED"]),
        helper.make_node("CumSum", ["looked_up", "AXIS"], ["running"]),
        helper.make_node("Concat", ["NOTHING", "running"], ["from_zero"], axis=0),
        helper.make_node("Gather", ["from_zero", "BOUNDS"], ["at_bounds"]),
        helper.make_node("Slice", ["at_bounds", "I1", f"I{2**62}"], ["ends"]),
        helper.make_node("Slice", ["at_bounds", "I0", "I-1"], ["starts"]),
        helper.make_node("Sub", ["ends", "starts"], ["sums"]),
        helper.make_node("Unsqueeze", ["sums", "I1"], ["SUM"]),
    ]
    return model(
        nodes,
        [info("VALUES", TensorProto.INT32, ["total"]), info("BOUNDS", TensorProto.INT32, ["bounds"])],
        [info("SUM", TensorProto.FLOAT, ["requests", 1]), info("DOUBLED", TensorProto.FLOAT, ["total"])],
        constants,
    )


ITEM_SHAPES_CONFIG = """
max_batch_size: 4
input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1, -1 ] allow_ragged_batch: true } ]
output [ { name: "SHAPE" data_type: TYPE_FP32 dims: [ 2 ] } ]
batch_input [
  { kind: BATCH_ITEM_SHAPE target_name: "SHAPES" data_type: TYPE_FP32 source_input: "IN" }
]
"""


def item_shapes() -> onnx.ModelProto:
    """SHAPE `[items, 2]` is the shape of each item of the ragged IN, as BATCH_ITEM_SHAPE gives it."""
    return model(
        [helper.make_node("Identity", ["SHAPES"], ["SHAPE"])],
        [info("IN", TensorProto.FLOAT, ["total"]), info("SHAPES", TensorProto.FLOAT, ["items", 2])],
        [info("SHAPE", TensorProto.FLOAT, ["items", 2])],
    )
