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


QUARTERS_CONFIG = (
    DETECTOR_CONFIG.replace("[ 1, 4 ]", "[ 4, 4 ]")
    .replace('"scores" data_type: TYPE_FP32 dims: [ 1 ]', '"scores" data_type: TYPE_FP32 dims: [ 4 ]')
    .replace("[ 1, 5, 2 ]", "[ 4, 5, 2 ]")
)

QUARTER_LANDMARKS = ((12.0, 12.0), (20.0, 12.0), (16.0, 16.0), (13.0, 20.0), (19.0, 20.0))
"""In the top left quarter of a 64x64 input; the other quarters have theirs in the same place."""


def quarters_detector(flat: int | None = None) -> onnx.ModelProto:
    """A face in each quarter of every picture, the top right one with the largest box; scores 0.9 to 0.6.

    The landmarks of the face `flat` all lie in one place.
    """
    corners = [(0.0, 0.0), (32.0, 0.0), (0.0, 32.0), (32.0, 32.0)]
    margins = [10.0, 8.0, 10.0, 10.0]
    boxes = [
        value
        for (x, y), margin in zip(corners, margins, strict=True)
        for value in (x + margin, y + margin, x + 32 - margin, y + 32 - margin)
    ]
    points = [value for x, y in corners for px, py in QUARTER_LANDMARKS for value in (x + px, y + py)]
    if flat is not None:
        points[10 * flat : 10 * (flat + 1)] = [7.0] * 10
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["zeros"]),
        helper.make_node("Unsqueeze", ["zeros", "one"], ["zeros2"]),
        helper.make_node("Unsqueeze", ["zeros", "two"], ["zeros3"]),
        helper.make_node("Unsqueeze", ["zeros", "three"], ["zeros4"]),
        helper.make_node("Add", ["zeros2", "values"], ["scores"]),
        helper.make_node("Add", ["zeros3", "places"], ["boxes"]),
        helper.make_node("Add", ["zeros4", "points"], ["landmarks"]),
        helper.make_node("Add", ["zeros2", "four"], ["fours"]),
        helper.make_node("Cast", ["fours"], ["count"], to=TensorProto.INT32),
    ]
    constants = [
        helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3]),
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("two", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("three", TensorProto.INT64, [3], [1, 2, 3]),
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        helper.make_tensor("four", TensorProto.FLOAT, [], [4.0]),
        helper.make_tensor("values", TensorProto.FLOAT, [1, 4], [0.9, 0.8, 0.7, 0.6]),
        helper.make_tensor("places", TensorProto.FLOAT, [1, 4, 4], boxes),
        helper.make_tensor("points", TensorProto.FLOAT, [1, 4, 5, 2], points),
    ]
    return model(
        nodes,
        [info("image", TensorProto.UINT8, ["N", 64, 64, 3])],
        [
            info("boxes", TensorProto.FLOAT, ["N", 4, 4]),
            info("scores", TensorProto.FLOAT, ["N", 4]),
            info("landmarks", TensorProto.FLOAT, ["N", 4, 5, 2]),
            info("count", TensorProto.INT32, ["N", 1]),
        ],
        constants,
    )


BOXES_CONFIG = """
max_batch_size: 8
input [ { name: "image" data_type: TYPE_UINT8 dims: [ 64, 64, 3 ] } ]
output [ { name: "rows" data_type: TYPE_FP32 dims: [ 1, 5 ] } ]
parameters { key: "naiad.task" value { string_value: "detect" } }
parameters { key: "naiad.head" value { string_value: "boxes" } }
"""


def boxes_detector() -> onnx.ModelProto:
    """One row for each picture: the box BOX, and half as score."""
    return model(
        [
            helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
            helper.make_node("Unsqueeze", ["nothing", "last"], ["wide"]),
            helper.make_node("Add", ["wide", "row"], ["rows"]),
        ],
        [info("image", TensorProto.UINT8, ["N", 64, 64, 3])],
        [info("rows", TensorProto.FLOAT, ["N", 1, 5])],
        [
            helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3]),
            helper.make_tensor("last", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
            helper.make_tensor("row", TensorProto.FLOAT, [1, 1, 5], [*BOX, 0.5]),
        ],
    )


def color_embedder(batch: str | int = "N") -> onnx.ModelProto:
    """The embedding of a crop is its mean colour, as red, green, blue in 0..255."""
    return model(
        [
            helper.make_node("Cast", ["crop"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["pixels", "axes"], ["embedding"], keepdims=0),
        ],
        [info("crop", TensorProto.UINT8, [batch, 112, 112, 3])],
        [info("embedding", TensorProto.FLOAT, [batch, 3])],
        [helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])],
    )


ROWS_CONFIG = """
input [ { name: "image" data_type: TYPE_UINT8 dims: [ 64, 64, 3 ] } ]
output [ { name: "rows" data_type: TYPE_FP32 dims: [ 2, 18 ] } ]
parameters { key: "naiad.task" value { string_value: "detect" } }
parameters { key: "naiad.head" value { string_value: "boxes" } }
parameters { key: "naiad.input.resize" value { string_value: "letterbox_center" } }
parameters { key: "naiad.input.pad" value { string_value: "114" } }
parameters { key: "naiad.detect.coordinates" value { string_value: "fractions" } }
parameters { key: "naiad.detect.score_threshold" value { string_value: "0" } }
"""


def rows_detector() -> onnx.ModelProto:
    """Two rows of box, score, six landmarks and class for one picture, without a batch dimension.

    The same box (a quarter to three quarters of the input) of the classes 3 and 7, each landmark at its middle.
    The first score is the input's top left pixel, 0..1, the second half of that.
    """
    box = [0.25, 0.25, 0.75, 0.75, 0.0, *[0.5] * 12]
    score = [0.0] * 18
    score[4] = 1 / 255
    nodes = [
        helper.make_node("Gather", ["image", "corner"], ["row"], axis=0),
        helper.make_node("Gather", ["row", "corner"], ["pixel"], axis=0),
        helper.make_node("Gather", ["pixel", "corner"], ["blue"], axis=0),
        helper.make_node("Cast", ["blue"], ["value"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["value", "scores"], ["scored"]),
        helper.make_node("Add", ["scored", "boxes"], ["rows"]),
    ]
    constants = [
        helper.make_tensor("corner", TensorProto.INT64, [], [0]),
        helper.make_tensor("scores", TensorProto.FLOAT, [2, 18], score + [value / 2 for value in score]),
        helper.make_tensor("boxes", TensorProto.FLOAT, [2, 18], [*box, 3.0, *box, 7.0]),
    ]
    return model(
        nodes,
        [info("image", TensorProto.UINT8, [64, 64, 3])],
        [info("rows", TensorProto.FLOAT, [2, 18])],
        constants,
    )
