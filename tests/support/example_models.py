"""The repository that Triton's client examples expect, as graphs of a few nodes each.

Eight models of Triton's example repository, and four that its example programs bring along themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from onnx import TensorProto, helper
from support.onnx_models import add_sub, identity, info, model
from support.repositories import add_model
from support.sequences import CONTROL_INPUTS, IO, dyna_sequence

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import onnx

WAITING = "waiting"
"""The model whose requests stay in the queue until there are two."""

CLASSIFIERS = {"densenet_onnx": (5, 50, 500), "inception_onnx": (5, 50, 500), "batched_classifier": (0, 1, 2)}
"""The classes that the image classifiers find in a picture that is all red, green or blue."""


class Example(NamedTuple):
    """A model's graph, its config, and how many labels its output has (0: no label file)."""

    graph: onnx.ModelProto
    config: str
    labels: int = 0


def write_examples(repository: Path, *, extras: bool = True) -> None:
    """Write Triton's eight examples; with `extras` also what example programs need beside them."""
    for name, example in (examples() | (_extras() if extras else {})).items():
        write_example(repository, name, example)


def write_example(repository: Path, name: str, example: Example) -> None:
    """Write one model with its label file."""
    folder = add_model(repository, name, example.graph, example.config)
    if example.labels:
        (folder / "labels.txt").write_text("".join(f"class {n}\n" for n in range(example.labels)))


def examples() -> dict[str, Example]:
    """Triton's eight examples by name."""
    return {
        "simple": Example(add_sub(), _add_sub_config("INT32")),
        "simple_int8": Example(_add_sub_through_int32(TensorProto.INT8), _add_sub_config("INT8")),
        "simple_string": Example(_add_sub_through_int32(TensorProto.STRING), _add_sub_config("STRING")),
        "simple_sequence": Example(_simple_sequence(), _sequence_config(_START_AND_READY, "direct {}")),
        "simple_dyna_sequence": Example(dyna_sequence(), _dyna_config("UINT64")),
        "simple_identity": Example(identity(TensorProto.STRING, ["N", "length"]), _identity_config("STRING")),
        "densenet_onnx": Example(_densenet(), DENSENET_CONFIG, 1000),
        "inception_onnx": Example(_inception(), INCEPTION_CONFIG, 1001),
    }


def _extras() -> dict[str, Example]:
    waits = "dynamic_batching { preferred_batch_size: [ 2 ] max_queue_delay_microseconds: 600000000 }"
    integers = identity(TensorProto.INT32, ["N", "length"])
    return {
        "simple_string_dyna_sequence": Example(dyna_sequence(TensorProto.STRING), _dyna_config("STRING")),
        "custom_identity_int32": Example(integers, _identity_config("INT32")),
        "batched_classifier": Example(_batched_classifier(), BATCHED_CONFIG, 4),
        WAITING: Example(add_sub(), _add_sub_config("INT32") + waits),
    }


def _add_sub_config(datatype: str) -> str:
    return f"""
    platform: "onnxruntime_onnx"
    max_batch_size: 8
    input [
      {{ name: "INPUT0" data_type: TYPE_{datatype} dims: [ 16 ] }},
      {{ name: "INPUT1" data_type: TYPE_{datatype} dims: [ 16 ] }}
    ]
    output [
      {{ name: "OUTPUT0" data_type: TYPE_{datatype} dims: [ 16 ] }},
      {{ name: "OUTPUT1" data_type: TYPE_{datatype} dims: [ 16 ] }}
    ]
    """


def _identity_config(datatype: str) -> str:
    return f"""
    backend: "onnxruntime"
    max_batch_size: 8
    input [ {{ name: "INPUT0" data_type: TYPE_{datatype} dims: [ -1 ] }} ]
    output [ {{ name: "OUTPUT0" data_type: TYPE_{datatype} dims: [ -1 ] }} ]
    """


_START_AND_READY = """
    control_input [
      { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] },
      { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ] } ] }
    ]
"""


def _sequence_config(controls: str, strategy: str) -> str:
    return f"""
    platform: "onnxruntime_onnx"
    max_batch_size: 8
    {IO}
    sequence_batching {{ max_sequence_idle_microseconds: 10000000 {strategy} {controls} }}
    instance_group [ {{ count: 2 kind: KIND_CPU }} ]
    """


def _dyna_config(corrid: str) -> str:
    oldest = "oldest { max_candidate_sequences: 1024 max_queue_delay_microseconds: 10000 }"
    return _sequence_config(CONTROL_INPUTS % corrid, oldest)


DENSENET_CONFIG = """
    platform: "onnxruntime_onnx"
    max_batch_size: 0
    input [ {
      name: "data_0" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, 224, 224 ]
      reshape { shape: [ 1, 3, 224, 224 ] }
    } ]
    output [ {
      name: "fc6_1" data_type: TYPE_FP32 dims: [ 1000 ] reshape { shape: [ 1, 1000, 1, 1 ] }
      label_filename: "labels.txt"
    } ]
"""
INCEPTION_CONFIG = """
    platform: "onnxruntime_onnx"
    max_batch_size: 0
    input [ {
      name: "input:0" data_type: TYPE_FP32 format: FORMAT_NHWC dims: [ 299, 299, 3 ]
      reshape { shape: [ 1, 299, 299, 3 ] }
    } ]
    output [ {
      name: "InceptionV3/Predictions/Softmax:0" data_type: TYPE_FP32 dims: [ 1001 ]
      reshape { shape: [ 1, 1001 ] } label_filename: "labels.txt"
    } ]
"""
BATCHED_CONFIG = """
    platform: "onnxruntime_onnx"
    max_batch_size: 8
    input [ { name: "image" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, 32, 32 ] } ]
    output [ { name: "scores" data_type: TYPE_FP32 dims: [ 4 ] label_filename: "labels.txt" } ]
    dynamic_batching {}
"""


def _add_sub_through_int32(elem_type: int) -> onnx.ModelProto:
    """The sum and the difference, computed in INT32: of numbers in decimal where the type is STRING."""
    dims: list[int | str | None] = ["N", 16]
    return model(
        [
            *(helper.make_node("Cast", [f"INPUT{n}"], [f"in{n}"], to=TensorProto.INT32) for n in (0, 1)),
            helper.make_node("Add", ["in0", "in1"], ["out0"]),
            helper.make_node("Sub", ["in0", "in1"], ["out1"]),
            *(helper.make_node("Cast", [f"out{n}"], [f"OUTPUT{n}"], to=elem_type) for n in (0, 1)),
        ],
        [info(f"INPUT{n}", elem_type, dims) for n in (0, 1)],
        [info(f"OUTPUT{n}", elem_type, dims) for n in (0, 1)],
    )


def _simple_sequence() -> onnx.ModelProto:
    """OUTPUT = (INPUT + START) * READY, all INT32 `[N, 1]`."""
    dims: list[int | str | None] = ["N", 1]
    return model(
        [
            helper.make_node("Add", ["INPUT", "START"], ["sum"]),
            helper.make_node("Mul", ["sum", "READY"], ["OUTPUT"]),
        ],
        [info(name, TensorProto.INT32, dims) for name in ("INPUT", "START", "READY")],
        [info("OUTPUT", TensorProto.INT32, dims)],
    )


def _weights(classes: int, found: Sequence[int]) -> TensorProto:
    """FP32 `[3, classes]`: each colour's mean is the score of its class, half of it that of the next one."""
    weights = np.zeros((3, classes), np.float32)
    weights[range(3), found] = 1
    weights[range(3), [index + 1 for index in found]] += 0.5
    return helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.tobytes(), raw=True)


def _shape(name: str, *dims: int) -> TensorProto:
    return helper.make_tensor(name, TensorProto.INT64, [len(dims)], dims)


def _densenet() -> onnx.ModelProto:
    return model(
        [
            helper.make_node("GlobalAveragePool", ["data_0"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["means"]),
            helper.make_node("Gemm", ["means", "weights"], ["scores"]),
            helper.make_node("Reshape", ["scores", "shape"], ["fc6_1"]),
        ],
        [info("data_0", TensorProto.FLOAT, [1, 3, 224, 224])],
        [info("fc6_1", TensorProto.FLOAT, [1, 1000, 1, 1])],
        [_weights(1000, CLASSIFIERS["densenet_onnx"]), _shape("shape", 1, 1000, 1, 1)],
    )


def _inception() -> onnx.ModelProto:
    softmax = "InceptionV3/Predictions/Softmax:0"
    return model(
        [
            helper.make_node("ReduceMean", ["input:0", "axes"], ["means"], keepdims=0),
            helper.make_node("MatMul", ["means", "weights"], ["scores"]),
            helper.make_node("Softmax", ["scores"], [softmax]),
        ],
        [info("input:0", TensorProto.FLOAT, [1, 299, 299, 3])],
        [info(softmax, TensorProto.FLOAT, [1, 1001])],
        [_weights(1001, CLASSIFIERS["inception_onnx"]), _shape("axes", 1, 2)],
    )


def _batched_classifier() -> onnx.ModelProto:
    return model(
        [
            helper.make_node("ReduceMean", ["image", "axes"], ["means"], keepdims=0),
            helper.make_node("MatMul", ["means", "weights"], ["scores"]),
        ],
        [info("image", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [info("scores", TensorProto.FLOAT, ["N", 4])],
        [_weights(4, CLASSIFIERS["batched_classifier"]), _shape("axes", 2, 3)],
    )
