"""The same models as the peers want them: Triton's repository with its Python backend, MLServer's settings.

All get the prepared model (weights off the input list), one thread a run, and as many runs at once as this
process may use CPUs.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import np_to_triton_dtype

from naiad.runtime.graph import prepare_model

if TYPE_CHECKING:
    from bench.cases import Case

_SCRIPTS = Path(__file__).resolve().parent / "peer_models"
MLSERVER_BATCH_TIME_S = 0.0
"""How long MLServer waits for a batch to fill; 0 is no batches."""


def write_triton_repository(
    folder: Path, cases: list[Case], outputs: dict[str, list[dict[str, Any]]], instances: int
) -> None:
    """A model folder a model.

    Args:
        folder: where to.
        cases: several may share a model.
        outputs: what `bench.bare` says of each model's outputs.
        instances: runs at once.
    """
    for case in _models(cases):
        target = folder / case.model / "1"
        target.mkdir(parents=True)
        _write_model(case, target / "model.onnx")
        shutil.copyfile(_SCRIPTS / "triton_model.py", target / "model.py")
        config = triton_config(case, outputs[case.model], instances)
        (folder / case.model / "config.pbtxt").write_text(text_format.MessageToString(config))


def write_mlserver_models(
    folder: Path,
    cases: list[Case],
    outputs: dict[str, list[dict[str, Any]]],
    instances: int,
    ports: dict[str, int],
) -> None:
    """MLServer's settings and those of each model, with the config that perf_analyzer wants to see."""
    folder.mkdir(parents=True)
    settings = {"host": "127.0.0.1", "debug": False, "parallel_workers": 0, "metrics_endpoint": None, **ports}
    (folder / "settings.json").write_text(json.dumps(settings))
    for case in _models(cases):
        target = folder / case.model
        target.mkdir()
        _write_model(case, target / "model.onnx")
        (target / "model-settings.json").write_text(
            json.dumps(_mlserver_settings(case, target, outputs[case.model], instances))
        )
        config = service_pb2.ModelConfigResponse(config=triton_config(case, outputs[case.model], instances))
        (target / "model_config.bin").write_bytes(config.SerializeToString())


def triton_config(case: Case, outputs: list[dict[str, Any]], instances: int) -> model_config_pb2.ModelConfig:
    """A model's config: instances of one thread each, the dynamic batcher where the graph has batches."""
    config = model_config_pb2.ModelConfig(name=case.model, backend="python", max_batch_size=case.max_batch)
    config.instance_group.add(count=instances, kind=model_config_pb2.ModelInstanceGroup.KIND_CPU)
    config.parameters["threads"].string_value = "1"
    if case.max_batch:
        config.dynamic_batching.SetInParent()
    for name, (dtype, shape) in case.row_shapes.items():
        config.input.add(name=name, data_type=_data_type(dtype), dims=shape)
    for output in outputs:
        dims = output["shape"][1:] if case.max_batch else output["shape"]
        added = config.output.add(
            name=output["name"], data_type=_data_type(output["dtype"]), dims=dims or [1]
        )
        if not dims:
            added.reshape.SetInParent()  # one number an item: the graph gives a vector of them
    return config


def _mlserver_settings(
    case: Case, folder: Path, outputs: list[dict[str, Any]], instances: int
) -> dict[str, Any]:
    first = [-1] if case.max_batch else []
    settings: dict[str, Any] = {
        "name": case.model,
        "implementation": "mlserver_runtime.OnnxRuntime",
        "parameters": {
            "uri": str(folder / "model.onnx"),
            "version": "1",
            "extra": {"instances": instances, "threads": 1},
        },
        "inputs": [
            {"name": name, "datatype": np_to_triton_dtype(np.dtype(dtype)), "shape": [*first, *shape]}
            for name, (dtype, shape) in case.row_shapes.items()
        ],
        "outputs": [
            {
                "name": output["name"],
                "datatype": np_to_triton_dtype(np.dtype(output["dtype"])),
                "shape": output["shape"],
            }
            for output in outputs
        ],
    }
    if case.max_batch and MLSERVER_BATCH_TIME_S:
        settings |= {"max_batch_size": case.max_batch, "max_batch_time": MLSERVER_BATCH_TIME_S}
    return settings


def _models(cases: list[Case]) -> list[Case]:
    """One case a model."""
    return list({case.model: case for case in reversed(cases)}.values())[::-1]


def _write_model(case: Case, path: Path) -> None:
    source = prepare_model(Path(case.path), set(case.inputs)).source
    if isinstance(source, bytes):
        path.write_bytes(source)
    else:
        shutil.copyfile(source, path)


def _data_type(dtype: str) -> int:
    name = np_to_triton_dtype(np.dtype(dtype))
    value: int = model_config_pb2.DataType.Value(f"TYPE_{'STRING' if name == 'BYTES' else name}")
    return value
