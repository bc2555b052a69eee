"""What the benchmark of shadows serves: a model, and a second version of it that is ten times slower."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from bench.cases import Case
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "pictures"
SLOWER = 10
"""How many times as much the second version computes."""

_LAYERS = 8
_CHANNELS = 16
_SIDE = 224
_CONFIG = f"""
max_batch_size: 8
dynamic_batching {{ }}
input [ {{ name: "INPUT" data_type: TYPE_FP32 dims: [ 3, {_SIDE}, {_SIDE} ] }} ]
output [ {{ name: "OUTPUT" data_type: TYPE_FP32 dims: [ {_CHANNELS} ] }} ]
version_policy {{ specific {{ versions: [ VERSIONS ] }} }}
"""

ALONE, ROUTED, SHADOWED = "version 1 alone", "an experiment", "an experiment with a shadow"
"""The servers: without an `experiment.json`, with one that gives version 1 all, and with a shadow beside."""


def experiment(name: str, budget: float) -> dict[str, Any] | None:
    """The server's `experiment.json`."""
    if name == ALONE:
        return None
    content: dict[str, Any] = {"weights": {"1": 1, "2": 0}}
    if name == SHADOWED:
        content["shadow"] = {"version": 2, "share": 1.0, "budget": budget}
    return content


def write_repository(root: Path, name: str, budget: float) -> Path:
    """The model repository of one of the servers."""
    content = experiment(name, budget)
    folder = root / MODEL
    for version, times in ((1, 1), (2, SLOWER)):
        if version == 1 or content is not None:
            (folder / str(version)).mkdir(parents=True)
            onnx.save(_model(_LAYERS * times), folder / str(version) / "model.onnx")
    versions = "1" if content is None else "1, 2"
    (folder / "config.pbtxt").write_text(_CONFIG.replace("VERSIONS", versions), encoding="utf-8")
    if content is not None:
        (folder / "experiment.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def write_case(folder: Path, repository: Path) -> Case:
    """The requests: one picture of 588 KiB, again and again."""
    folder.mkdir(parents=True)
    picture = np.random.default_rng(0).random((1, 3, _SIDE, _SIDE), np.float32)
    picture.tofile(folder / "INPUT")
    inputs = {"INPUT": ("float32", picture.shape)}
    path = str(repository / MODEL / "1" / "model.onnx")
    return Case(MODEL, MODEL, MODEL, path, inputs, str(folder), max_batch=8)


def _model(layers: int) -> onnx.ModelProto:
    """A convolution that makes a picture small, so many more of it, and the mean of what is left."""
    random = np.random.default_rng(1)
    first = random.standard_normal((_CHANNELS, 3, 8, 8)) / 14
    nodes = [helper.make_node("Conv", ["INPUT", "first"], ["at0"], strides=[4, 4])]
    weights = [numpy_helper.from_array(first.astype(np.float32), "first")]
    for index in range(layers):
        kernel = random.standard_normal((_CHANNELS, _CHANNELS, 3, 3)) / 12
        weights.append(numpy_helper.from_array(kernel.astype(np.float32), f"kernel{index}"))
        nodes += [
            helper.make_node("Conv", [f"at{index}", f"kernel{index}"], [f"sum{index}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"sum{index}"], [f"at{index + 1}"]),
        ]
    nodes += [
        helper.make_node("GlobalAveragePool", [f"at{layers}"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["OUTPUT"]),
    ]
    graph = helper.make_graph(
        nodes,
        "shadow",
        [helper.make_tensor_value_info("INPUT", TensorProto.FLOAT, ["N", 3, _SIDE, _SIDE])],
        [helper.make_tensor_value_info("OUTPUT", TensorProto.FLOAT, ["N", _CHANNELS])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
