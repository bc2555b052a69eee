"""Tiny vision models: their answers depend on the image, so mixed-up results show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import TensorProto, helper
from support.onnx_models import info, model

if TYPE_CHECKING:
    import onnx

DETECTOR_CONFIG = """
max_batch_size: 8
input [ { name: "image" data_type: TYPE_UINT8 dims: [ 64, 64, 3 ] } ]
output [
  { name: "boxes" data_type: TYPE_FP32 dims: [ 1, 4 ] },
  { name: "scores" data_type: TYPE_FP32 dims: [ 1 ] },
  { name: "landmarks" data_type: TYPE_FP32 dims: [ 1, 5, 2 ] },
  { name: "count" data_type: TYPE_INT32 dims: [ 1 ] }
]
dynamic_batching { max_queue_delay_microseconds: 2000 }
parameters { key: "naiad.task" value { string_value: "detect" } }
parameters { key: "naiad.head" value { string_value: "mtcnn" } }
parameters { key: "naiad.input.resize" value { string_value: "letterbox" } }
parameters { key: "naiad.detect.score_threshold" value { string_value: "0" } }
"""

EMBEDDER_CONFIG = """
max_batch_size: 4
input [ { name: "crop" data_type: TYPE_UINT8 dims: [ 112, 112, 3 ] } ]
output [ { name: "embedding" data_type: TYPE_FP32 dims: [ 3 ] } ]
dynamic_batching { }
parameters { key: "naiad.task" value { string_value: "embed" } }
"""

BOX = (8.0, 16.0, 40.0, 56.0)
"""The box that `brightness_detector` finds in every picture, in pixels of its 64x64 input."""

LANDMARKS = ((16.0, 24.0), (32.0, 24.0), (24.0, 36.0), (18.0, 46.0), (30.0, 46.0))


def brightness_detector() -> onnx.ModelProto:
    """One face a picture, always at BOX with LANDMARKS; its score is the picture's mean brightness, 0..1."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "full"], ["brightness"]),
        helper.make_node("Unsqueeze", ["brightness", "one"], ["scores"]),
        helper.make_node("Mul", ["scores", "zero"], ["zeros"]),
        helper.make_node("Unsqueeze", ["zeros", "two"], ["zeros3"]),
        helper.make_node("Add", ["zeros3", "box"], ["boxes"]),
        helper.make_node("Unsqueeze", ["zeros3", "three"], ["zeros4"]),
        helper.make_node("Add", ["zeros4", "points"], ["landmarks"]),
        helper.make_node("Add", ["zeros", "one_float"], ["ones"]),
        helper.make_node("Cast", ["ones"], ["count"], to=TensorProto.INT32),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3]),
        helper.make_tensor("full", TensorProto.FLOAT, [], [255.0]),
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("two", TensorProto.INT64, [1], [2]),
        helper.make_tensor("three", TensorProto.INT64, [1], [3]),
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        helper.make_tensor("one_float", TensorProto.FLOAT, [], [1.0]),
        helper.make_tensor("box", TensorProto.FLOAT, [1, 1, 4], BOX),
        helper.make_tensor(
            "points", TensorProto.FLOAT, [1, 1, 5, 2], [value for point in LANDMARKS for value in point]
        ),
    ]
    return model(
        nodes,
        [info("image", TensorProto.UINT8, ["N", 64, 64, 3])],
        [
            info("boxes", TensorProto.FLOAT, ["N", 1, 4]),
            info("scores", TensorProto.FLOAT, ["N", 1]),
            info("landmarks", TensorProto.FLOAT, ["N", 1, 5, 2]),
            info("count", TensorProto.INT32, ["N", 1]),
        ],
        constants,
    )


def color_embedder() -> onnx.ModelProto:
    """The embedding of a crop is its mean colour, as red, green, blue in 0..255."""
    return model(
        [
            helper.make_node("Cast", ["crop"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["pixels", "axes"], ["embedding"], keepdims=0),
        ],
        [info("crop", TensorProto.UINT8, ["N", 112, 112, 3])],
        [info("embedding", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])],
    )
