"""What is measured: each case is a model, its file, and the tensors or frames that are sent."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper

from naiad.core.errors import InvalidArgumentError
from naiad.demo.media import video_frames
from naiad.demo.repository import build_repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Arrays = dict[str, np.ndarray]
    Inputs = dict[str, tuple[str, tuple[int, ...]]]

MEBIBYTE_OF_FP32 = 2**18
FRAMES = 24
"""Different JPEG frames that a stream goes through, again and again."""
USER_MAX_BATCH = 4
"""What the server gives a batchable model without a config (`--default-max-batch-size`)."""

_IDENTITY_CONFIG = f"""
max_batch_size: 8
dynamic_batching {{ }}
input [ {{ name: "INPUT0" data_type: TYPE_FP32 dims: [ {MEBIBYTE_OF_FP32} ] }} ]
output [ {{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ {MEBIBYTE_OF_FP32} ] }} ]
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One model under one kind of request; plain values, so that it travels to the measuring processes.

    `inputs` maps each input to (numpy dtype, shape of one request). With `frame` the one input is a picture.
    `stream` sends JPEG frames over StreamDetect instead of tensors. `max_batch` 0 is a model without batches.
    """

    name: str
    model: str
    path: str
    inputs: Inputs
    max_batch: int = 0
    frame: bool = False
    stream: bool = False

    def requests(self) -> list[Arrays]:
        """The tensors of the requests sent in turn, the same in every process: one, or each frame's."""
        if self.frame:
            (name,) = self.inputs
            return [{name: _pixels(frame)} for frame in video_frames(FRAMES if self.stream else 1)]
        random = np.random.default_rng(0)
        return [{name: _array(random, dtype, shape) for name, (dtype, shape) in self.inputs.items()}]


def _pixels(jpeg: bytes) -> np.ndarray:
    """UINT8 `[1, height, width, 3]`, RGB."""
    bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)[np.newaxis]


def _array(random: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return random.random(shape).astype(kind)
    # Small numbers are in range for whatever integers stand for: pixels, indices, sizes.
    return random.integers(0, 2, shape).astype(kind)


def build_cases(repository: Path, models: Path | None) -> list[Case]:
    """Write the model repository and say what can be measured on it.

    Args:
        repository: an empty folder.
        models: a folder of the user's `*.onnx` files; each gets a case of its own.

    Raises:
        InvalidArgumentError: `models` holds no ONNX file, or one whose input cannot be made up.
    """
    build_repository(repository)
    identity = _model_file(repository, "identity_1mib", _IDENTITY_CONFIG)
    identity.write_bytes(_identity().SerializeToString())
    vector, picture = ("float32", (1, 16)), ("uint8", (1, 480, 640, 3))
    demo = {name: str(repository / name) for name in ("add_sub", "face_detector")}
    add_sub, detector = demo["add_sub"] + "/1/model.onnx", demo["face_detector"] + "/2/model.onnx"
    faces: Inputs = {"image": picture}
    return [
        Case("add_sub", "add_sub", add_sub, {"INPUT0": vector, "INPUT1": vector}, 8),
        Case(
            "identity 1 MiB",
            "identity_1mib",
            str(identity),
            {"INPUT0": ("float32", (1, MEBIBYTE_OF_FP32))},
            8,
        ),
        Case("face_detector tensors", "face_detector", detector, faces, 8, frame=True),
        Case("face_detector JPEG stream", "face_detector", detector, faces, 8, frame=True, stream=True),
        *(_user_cases(repository, models) if models else ()),
    ]


def _identity() -> onnx.ModelProto:
    dims: list[str | int | None] = ["N", MEBIBYTE_OF_FP32]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])],
        "identity",
        [helper.make_tensor_value_info("INPUT0", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, dims)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _model_file(repository: Path, name: str, config: str) -> Path:
    """The path of version 1's model file, its folder made and the config written."""
    path = repository / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(config)
    return path


def _user_cases(repository: Path, models: Path) -> Iterator[Case]:
    files = sorted(models.glob("*.onnx"))
    if not files:
        raise InvalidArgumentError(f"--models: there is no *.onnx file in '{models}'")
    for file in files:
        copy = _model_file(repository, file.stem, 'platform: "onnxruntime_onnx"\n')
        shutil.copyfile(file, copy)
        inputs, batched = _graph_inputs(file)
        yield Case(file.stem, file.stem, str(copy), inputs, USER_MAX_BATCH if batched else 0)


def _graph_inputs(file: Path) -> tuple[Inputs, bool]:
    """The inputs of one request, and whether the first dimension of all is a batch."""
    graph = onnx.load(file, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    tensors = {value.name: value.type.tensor_type for value in graph.input if value.name not in weights}
    inputs: Inputs = {}
    batched = True
    for name, tensor in tensors.items():
        first, *rest = [dim.dim_value for dim in tensor.shape.dim] or [1]
        if not all(rest):
            raise InvalidArgumentError(
                f"--models: input '{name}' of '{file.name}' has a dimension without a size besides the "
                "first: no request can be made up for it"
            )
        batched = batched and not first
        inputs[name] = (_dtype_name(tensor), (first or 1, *rest))
    return inputs, batched


def _dtype_name(tensor: Any) -> str:
    return str(np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name)
