"""The model repository of a soak: every kind of model, small, and one whose weights show when they stay."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from naiad.core.errors import InvalidArgumentError
from naiad.demo.repository import build_repository

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WEIGHTS = 1024
"""Rows and columns of the heavy models' weights: 4 MiB, which no noise hides if a reload keeps them."""
ROW = 16

_DIMS = f"data_type: TYPE_FP32 dims: [ {ROW} ]"
_DENSE = f"""
max_batch_size: 8
dynamic_batching {{ }}
input [ {{ name: "INPUT" data_type: TYPE_FP32 dims: [ {WEIGHTS} ] }} ]
output [ {{ name: "OUTPUT" data_type: TYPE_FP32 dims: [ {WEIGHTS} ] }} ]
"""
_DYNAMIC = """
max_batch_size: 8
dynamic_batching { }
input [ { name: "INPUT" data_type: TYPE_FP32 dims: [ -1, -1 ] } ]
output [ { name: "OUTPUT" data_type: TYPE_FP32 dims: [ -1, -1 ] } ]
"""
_SEQUENCE = """
max_batch_size: 8
input [ { name: "INPUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUTPUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
sequence_batching {
  max_sequence_idle_microseconds: 5000000
  oldest { max_candidate_sequences: 64 }
  control_input [
    { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] }
  ]
  state [ { input_name: "SUM_IN" output_name: "SUM_OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
}
"""
_ENSEMBLE = f"""
platform: "ensemble"
max_batch_size: 8
input [ {{ name: "A" {_DIMS} }}, {{ name: "B" {_DIMS} }} ]
output [ {{ name: "TWICE_A" {_DIMS} }} ]
ensemble_scheduling {{
  step {{ model_name: "add_sub" model_version: -1
    input_map {{ key: "INPUT0" value: "A" }} input_map {{ key: "INPUT1" value: "B" }}
    output_map {{ key: "OUTPUT0" value: "sum" }} output_map {{ key: "OUTPUT1" value: "difference" }} }}
  step {{ model_name: "add_sub" model_version: -1
    input_map {{ key: "INPUT0" value: "sum" }} input_map {{ key: "INPUT1" value: "difference" }}
    output_map {{ key: "OUTPUT0" value: "TWICE_A" }} }}
}}
"""
_PLAIN = ("add_sub", "dense", "versions", "dynamic", "sequence", "ensemble")
_YUNET = {"head": "yunet", "input.color": "bgr"}
_ULTRAFACE = {
    "head": "ultraface",
    "input.resize": "stretch",
    "input.mean": "127",
    "input.scale": "0.0078125",
}
_ASSETS = {
    "ultraface": ("ultraface_version-RFB-320.onnx", _ULTRAFACE),
    "yunet": ("yunet_n_320_320.onnx", _YUNET),
}


@dataclass(frozen=True, slots=True)
class SoakModels:
    """What was written: all models, those that find faces, and the heavy one's bytes (`dense` and others)."""

    repository: Path
    names: tuple[str, ...]
    detectors: tuple[str, ...]
    weights: bytes


def model_names(assets: Path | None) -> tuple[str, ...]:
    """The models that `write_models` writes.

    Raises:
        InvalidArgumentError: as `write_models`.
    """
    return (*_PLAIN, *_detectors(assets))


def _detectors(assets: Path | None) -> tuple[str, ...]:
    """The models that find faces."""
    if assets is None:
        return ("face_detector",)
    found = [name for name, (file, _) in _ASSETS.items() if (assets / "models" / file).is_file()]
    if not found:
        files = ", ".join(file for file, _ in _ASSETS.values())
        raise InvalidArgumentError(f"--assets: '{assets / 'models'}' has none of {files}")
    return ("face_detector", *found)


def write_models(repository: Path, assets: Path | None) -> SoakModels:
    """Write the repository into an empty folder.

    Args:
        repository: the folder.
        assets: a folder with published models below `models/`; those that are there are served too.

    Raises:
        InvalidArgumentError: `assets` is given and has none of them.
    """
    detectors = _detectors(assets)
    build_repository(repository)
    shutil.rmtree(repository / "face_detector" / "2")  # twice the work for the same code
    shutil.rmtree(repository / "face_embedder")
    weights = dense().SerializeToString()
    _add(repository, "dense", weights, _DENSE)
    _add(repository, "versions", weights, _DENSE)
    _add(repository, "dynamic", _dynamic().SerializeToString(), _DYNAMIC)
    _add(repository, "sequence", _accumulate().SerializeToString(), _SEQUENCE)
    ensemble = repository / "ensemble"
    (ensemble / "1").mkdir(parents=True)
    (ensemble / "config.pbtxt").write_text(_ENSEMBLE, encoding="utf-8")
    if assets is not None:
        for name in detectors[1:]:
            _add_asset(repository, name, assets)
    return SoakModels(repository, (*_PLAIN, *detectors), detectors, weights)


def _add(repository: Path, name: str, graph: bytes, config: str) -> None:
    path = repository / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(graph)
    (repository / name / "config.pbtxt").write_text(config, encoding="utf-8")


def _add_asset(repository: Path, name: str, assets: Path) -> None:
    file, parameters = _ASSETS[name]
    texts = {"task": "detect"} | parameters
    config = "\n".join(
        f'parameters {{ key: "naiad.{key}" value {{ string_value: "{value}" }} }}'
        for key, value in texts.items()
    )
    _add(repository, name, (assets / "models" / file).read_bytes(), config)


def _info(name: str, kind: int, dims: Sequence[str | int | None]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, dims)


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "soak", list(inputs), list(outputs), list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def dense(size: int = WEIGHTS) -> onnx.ModelProto:
    """OUTPUT = INPUT times a matrix (FP32 `[N, size]`) that doubles it."""
    weights = (2 * np.eye(size, dtype=np.float32)).tobytes()
    return _model(
        [helper.make_node("MatMul", ["INPUT", "W"], ["OUTPUT"])],
        [_info("INPUT", TensorProto.FLOAT, ["N", size])],
        [_info("OUTPUT", TensorProto.FLOAT, ["N", size])],
        [helper.make_tensor("W", TensorProto.FLOAT, [size, size], weights, raw=True)],
    )


def _dynamic() -> onnx.ModelProto:
    """OUTPUT = INPUT + INPUT (FP32 `[N, H, W]`)."""
    dims: list[str | int | None] = ["N", "H", "W"]
    return _model(
        [helper.make_node("Add", ["INPUT", "INPUT"], ["OUTPUT"])],
        [_info("INPUT", TensorProto.FLOAT, dims)],
        [_info("OUTPUT", TensorProto.FLOAT, dims)],
    )


def _accumulate() -> onnx.ModelProto:
    """OUTPUT = SUM_OUT = INPUT + SUM_IN * (1 - START), all INT32 `[N, 1]`."""
    dims: list[str | int | None] = ["N", 1]
    nodes = [
        helper.make_node("Sub", ["one", "START"], ["going_on"]),
        helper.make_node("Mul", ["SUM_IN", "going_on"], ["before"]),
        helper.make_node("Add", ["INPUT", "before"], ["SUM_OUT"]),
        helper.make_node("Identity", ["SUM_OUT"], ["OUTPUT"]),
    ]
    return _model(
        nodes,
        [_info(name, TensorProto.INT32, dims) for name in ("INPUT", "START", "SUM_IN")],
        [_info(name, TensorProto.INT32, dims) for name in ("OUTPUT", "SUM_OUT")],
        [helper.make_tensor("one", TensorProto.INT32, [], [1])],
    )
