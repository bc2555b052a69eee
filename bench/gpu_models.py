"""The networks of the GPU benchmark: one that is made here, in FP32 and FP16, and files that are given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper, numpy_helper

from naiad.config.model_config import InstanceGroup, InstanceKind, ModelConfig, TensorConfig
from naiad.config.runtime_keys import CUDA_GRAPHS, CUDA_SHAPES, GPU_LANES
from naiad.core.tensors import WILDCARD
from naiad.runtime.graph import prepare_model
from naiad.runtime.onnx_session import open_session
from naiad.runtime.providers import CPU, Provider, ProviderPlan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from naiad.core.tensors import Array, TensorSpec
    from naiad.runtime.graph import PreparedModel

_CHANNELS = (32, 64, 64, 128, 128, 256)
CPU_PLAN = ProviderPlan((Provider(CPU),), (CPU,), ())


@dataclass(frozen=True)
class Subject:
    """A model as it is measured: its file as the engine is given it, and a config of fixed shapes."""

    name: str
    prepared: PreparedModel
    config: ModelConfig

    def feeds(self, rows: int) -> dict[str, Array]:
        """Random pictures, the same each time."""
        source = np.random.default_rng(rows)
        shapes = declared(self.config)
        return {
            tensor.name: source.random((rows, *shapes[tensor.name])).astype(tensor.datatype.numpy)
            for tensor in self.config.inputs
        }

    def asked(self, *, lanes: int, graphs: bool) -> ModelConfig:
        """The config with so many lanes."""
        more = {GPU_LANES: str(lanes), CUDA_GRAPHS: "on" if graphs else "off"}
        return replace(self.config, parameters={**self.config.parameters, **more})


def declared(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Each input's shape without the batch dimension."""
    entries = (entry.rpartition(":") for entry in config.parameters[CUDA_SHAPES].split(","))
    return {name: tuple(map(int, text.split("x"))) for name, _, text in entries}


def subject_of(path: Path, *, side: int, max_batch: int) -> Subject | None:
    """The model of a file whose batch dimension is free; None for another. Free sizes become `side`."""
    prepared = prepare_model(path, ())
    bare = ModelConfig(path.stem, 0, (), (), instance_groups=(InstanceGroup("gpu", InstanceKind.GPU, 1),))
    session = open_session(prepared, bare, CPU_PLAN, 1, 1)
    specs = [*session.inputs(), *session.outputs()]
    config = replace(bare, max_batch_size=max_batch, inputs=_tensors(session.inputs()))
    config = replace(config, outputs=_tensors(session.outputs()))
    session.close()
    if any(spec.shape is None or spec.shape[:1] != (WILDCARD,) for spec in specs):
        return None
    shapes = ",".join(
        f"{tensor.name}:{'x'.join(str(side if dim == WILDCARD else dim) for dim in tensor.dims)}"
        for tensor in config.inputs
    )
    return Subject(path.stem, prepared, replace(config, parameters={CUDA_SHAPES: shapes}))


def _tensors(specs: Sequence[TensorSpec]) -> tuple[TensorConfig, ...]:
    return tuple(TensorConfig(spec.name, spec.datatype, (spec.shape or ())[1:]) for spec in specs)


def write_network(folder: Path, dtype: type[np.generic]) -> Path:
    """A backbone of six convolutions, as of a small detector; INPUT `[N, 3, H, W]`, OUTPUT `[N, 256]`."""
    source = np.random.default_rng(1)
    nodes, weights, last, channels = [], [], "INPUT", 3
    for layer, width in enumerate(_CHANNELS):
        values = source.normal(0, (2 / (9 * channels)) ** 0.5, (width, channels, 3, 3)).astype(dtype)
        weights.append(numpy_helper.from_array(values, f"w{layer}"))
        stride = [2, 2] if layer % 2 == 0 else [1, 1]
        nodes.append(
            helper.make_node("Conv", [last, f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1], strides=stride)
        )
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]))
        last, channels = f"r{layer}", width
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["mean"]))
    nodes.append(helper.make_node("Flatten", ["mean"], ["OUTPUT"]))
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("INPUT", kind, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("OUTPUT", kind, ["N", channels])],
        weights,
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path = folder / f"network_{np.dtype(dtype).name}.onnx"
    onnx.save(built, path)
    return path
