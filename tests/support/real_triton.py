"""A real tritonserver, where one was made: `python -m bench.peers` puts it into build/peers.

It runs ONNX files by its Python backend, with the same ONNX Runtime. It is started as a process and told of models
by a repository that is made from one of Naiad's: the same names, configs and `naiad.` parameters.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2, service_pb2_grpc
from tritonclient.grpc import service_pb2 as pb

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # `bench` is a folder of scripts and not an installed package

if TYPE_CHECKING:
    from bench.targets import Peer


def find_triton() -> None:
    """Skip the test where there is no tritonserver."""
    from bench.peers import TRITON  # noqa: PLC0415  # found on the path that is set above

    if not TRITON.made:
        pytest.skip("no tritonserver in build/peers: `python -m bench.peers` makes one")


async def served_config(channel: Any, model: str) -> Any:
    """The complete config that a server has of a model."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    return (await stub.ModelConfig(pb.ModelConfigRequest(name=model))).config


def write_python_model(folder: Path, config: Any, onnx_file: Path) -> None:
    """A model of Triton's Python backend that runs an ONNX file as `config` says.

    Args:
        folder: the repository.
        config: complete, of a server that runs the file itself.
        onnx_file: the model.
    """
    target = folder / config.name / "1"
    target.mkdir(parents=True)
    shutil.copyfile(onnx_file, target / "model.onnx")
    shutil.copyfile(ROOT / "bench" / "peer_models" / "triton_model.py", target / "model.py")
    for field in ("platform", "default_model_filename", "instance_group", "optimization"):
        config.ClearField(field)
    config.backend = "python"
    config.instance_group.add(count=1, kind=model_config_pb2.ModelInstanceGroup.KIND_CPU)
    config.parameters["threads"].string_value = "1"
    (folder / config.name / "config.pbtxt").write_text(text_format.MessageToString(config))


def triton_process(folder: Path, repository: Path, models: list[str]) -> Peer:
    """A tritonserver over a repository; enter it to start. Skips where it cannot be."""
    from bench import targets  # noqa: PLC0415  # found on the path that is set above
    from bench.peers import TRITON  # noqa: PLC0415

    from naiad.core.errors import UnavailableError  # noqa: PLC0415

    find_triton()
    packages = TRITON.site_packages
    triton = packages / "pytriton" / "tritonserver"
    try:
        backends = targets._triton_backend(folder / "backends" / "python", triton)
    except UnavailableError as error:
        pytest.skip(error.message)
    grpc_port, http_port, metrics_port = targets._free_ports(3)
    command = [
        str(triton / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"--cache-directory={triton / 'caches'}",
        *(f"--{kind}-address=127.0.0.1" for kind in ("grpc", "http", "metrics")),
        f"--grpc-port={grpc_port}",
        f"--http-port={http_port}",
        f"--metrics-port={metrics_port}",
        "--pinned-memory-pool-byte-size=0",
        "--allow-gpu-metrics=false",
    ]
    return targets.Peer(
        "Triton",
        {"unary"},
        folder / "triton.log",
        command,
        environment={
            "PATH": f"{TRITON.python.parent}{os.pathsep}{os.environ['PATH']}",
            "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"),
            "CUDA_VISIBLE_DEVICES": "",
        },
        models=models,
        port=grpc_port,
    )
