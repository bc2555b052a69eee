"""Configs and sessions that tests of the runtime make for themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from naiad.config.model_config import ModelConfig
from naiad.runtime.graph import prepare_model
from naiad.runtime.onnx_session import open_session
from naiad.runtime.providers import CPU, Provider, ProviderPlan

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

    from naiad.runtime.onnx_session import OnnxSession

CPU_PLAN = ProviderPlan((Provider(CPU),), (CPU,), ())


def config(**fields: Any) -> ModelConfig:
    """A config of model `m` without batches, tensors or instance groups, unless `fields` say otherwise."""
    values: dict[str, Any] = {"name": "m", "max_batch_size": 0, "inputs": (), "outputs": ()}
    return ModelConfig(**(values | fields))


def save(built: onnx.ModelProto, folder: Path) -> Path:
    """Write the model as `model.onnx` and return its path."""
    path = folder / "model.onnx"
    path.write_bytes(built.SerializeToString())
    return path


def cpu_session(built: onnx.ModelProto, folder: Path, model_config: ModelConfig | None = None) -> OnnxSession:
    """A session of one thread on the CPU."""
    model_config = model_config or config()
    prepared = prepare_model(save(built, folder), {tensor.name for tensor in model_config.inputs})
    return open_session(prepared, model_config, CPU_PLAN, 1, 1)
