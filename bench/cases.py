"""What is measured: each case is a model, its file, and the tensors or frames that are sent."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
import onnx
from bench.published import PUBLISHED
from onnx import TensorProto, helper

from naiad.core.errors import InvalidArgumentError
from naiad.demo.media import video_frames
from naiad.demo.repository import build_repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    Arrays = dict[str, np.ndarray]
    Inputs = dict[str, tuple[str, tuple[int, ...]]]

Wire = Literal["unary", "stream", "shared memory", "frames"]
"""How requests travel: ModelInfer, ModelStreamInfer, ModelInfer over system shared memory, StreamDetect."""

MEBIBYTE_OF_FP32 = 2**18
FRAMES = 24
"""Different JPEG frames that a stream goes through, again and again."""
DEFAULT_MAX_BATCH = 4
"""What the server gives a batchable model without a config (`--default-max-batch-size`)."""

_NO_CONFIG = ""
_IDENTITY_CONFIG = f"""
max_batch_size: 8
dynamic_batching {{ }}
input [ {{ name: "INPUT0" data_type: TYPE_FP32 dims: [ {MEBIBYTE_OF_FP32} ] }} ]
output [ {{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ {MEBIBYTE_OF_FP32} ] }} ]
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One model under one kind of request; plain values, so that it travels to the measuring processes.

    `inputs` maps each input to (numpy dtype, shape of one request); what is in it lies in the folder `data`,
    one file of raw bytes an input, so that every client sends the same. `max_batch` 0 is a model without
    batches. On the wire "frames" the one input is a picture, another one in each request.
    """

    key: str
    name: str
    model: str
    path: str
    inputs: Inputs
    data: str
    max_batch: int = 0
    wire: Wire = "unary"

    def requests(self) -> list[Arrays]:
        """The tensors of the requests sent in turn, the same in every process: one, or each frame's."""
        if self.wire == "frames":
            (name,) = self.inputs
            return [{name: _pixels(frame)} for frame in video_frames(FRAMES)]
        return [
            {
                name: np.fromfile(Path(self.data) / name, np.dtype(dtype)).reshape(shape)
                for name, (dtype, shape) in self.inputs.items()
            }
        ]

    @property
    def row_shapes(self) -> Inputs:
        """Like `inputs`, without the batch dimension that `max_batch` stands for."""
        skipped = 1 if self.max_batch else 0
        return {name: (dtype, shape[skipped:]) for name, (dtype, shape) in self.inputs.items()}


def _pixels(jpeg: bytes) -> np.ndarray:
    """UINT8 `[1, height, width, 3]`, RGB."""
    bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)[np.newaxis]


def _made_up(inputs: Inputs) -> Arrays:
    """The same numbers in every run: fractions for floats, 0 and 1 for integers."""
    random = np.random.default_rng(0)
    arrays = {}
    for name, (dtype, shape) in inputs.items():
        kind = np.dtype(dtype)
        # Small numbers are in range for whatever integers stand for: pixels, indices, sizes.
        values = random.random(shape) if kind.kind == "f" else random.integers(0, 2, shape)
        arrays[name] = values.astype(kind)
    return arrays


class CaseFolder:
    """Where a run's model repository (`repository`) and its requests' bytes lie."""

    def __init__(self, folder: Path) -> None:
        self.repository = folder / "repository"
        self._data = folder / "requests"

    def build(self, models: Path | None = None, assets: Path | None = None) -> list[Case]:
        """Write the repository and the requests, and say what can be measured on them.

        Args:
            models: a folder of the user's `*.onnx` files; each gets a case of its own.
            assets: a folder of published models (`bench.published`).

        Raises:
            InvalidArgumentError: `models` holds no ONNX file, or one whose input cannot be made up.
        """
        build_repository(self.repository)
        return [
            *(self._published(assets) if assets else ()),
            *self._detector(),
            *self._add_sub(),
            *self._identity(),
            *(self._user_cases(models) if models else ()),
        ]

    def keep(self, cases: list[Case]) -> None:
        """Take out of the repository what none of these cases needs: no server has to load it then."""
        wanted = {case.model for case in cases}
        for folder in self.repository.iterdir():
            if folder.name not in wanted:
                shutil.rmtree(folder)

    def _published(self, assets: Path) -> Iterator[Case]:
        for entry in PUBLISHED:
            path = self._model_file(entry.key, _NO_CONFIG)
            shutil.copyfile(assets / entry.file, path)
            batch = DEFAULT_MAX_BATCH if entry.batches else 0
            yield self._case(entry.key, entry.title, path, {entry.input: entry.tensor(assets)}, batch)

    def _detector(self) -> Iterator[Case]:
        path = self.repository / "face_detector" / "2" / "model.onnx"
        picture = {"image": _pixels(next(video_frames(1)))}
        tensors = self._case("mtcnn", "MTCNN 640x480", path, picture, 8, model="face_detector")
        yield tensors
        yield replace(tensors, key="mtcnn_stream", name="MTCNN, stream of JPEG frames", wire="frames")

    def _add_sub(self) -> Iterator[Case]:
        path = self.repository / "add_sub" / "1" / "model.onnx"
        vector = ("float32", (1, 16))
        arrays = _made_up({"INPUT0": vector, "INPUT1": vector})
        unary = self._case("add_sub", "add/sub", path, arrays, 8)
        yield unary
        yield replace(unary, key="add_sub_stream", name="add/sub, streaming", wire="stream")

    def _identity(self) -> Iterator[Case]:
        path = self._model_file("identity_1mib", _IDENTITY_CONFIG)
        path.write_bytes(_identity().SerializeToString())
        arrays = _made_up({"INPUT0": ("float32", (1, MEBIBYTE_OF_FP32))})
        plain = self._case("identity", "identity 1 MiB", path, arrays, 8, model="identity_1mib")
        yield plain
        shared = "identity 1 MiB, system shared memory"
        yield replace(plain, key="identity_shm", name=shared, wire="shared memory")

    def _user_cases(self, models: Path) -> Iterator[Case]:
        files = sorted(models.glob("*.onnx"))
        if not files:
            raise InvalidArgumentError(f"--models: there is no *.onnx file in '{models}'")
        for file in files:
            copy = self._model_file(file.stem, _NO_CONFIG)
            shutil.copyfile(file, copy)
            inputs, batched = _graph_inputs(file)
            yield self._case(
                file.stem, file.stem, copy, _made_up(inputs), DEFAULT_MAX_BATCH if batched else 0
            )

    def _case(
        self, key: str, name: str, path: Path, arrays: Arrays, max_batch: int, *, model: str = ""
    ) -> Case:
        """The case of these tensors, whose bytes are written."""
        folder = self._data / key
        folder.mkdir(parents=True)
        for input_name, array in arrays.items():
            array.tofile(folder / input_name)
        inputs = {input_name: (str(array.dtype), array.shape) for input_name, array in arrays.items()}
        return Case(key, name, model or key, str(path), inputs, str(folder), max_batch)

    def _model_file(self, name: str, config: str) -> Path:
        """The path of version 1's model file, its folder made and the config, if there is one, written."""
        path = self.repository / name / "1" / "model.onnx"
        if path.parent.exists():
            raise InvalidArgumentError(f"--models: '{name}' is the name of a model that is measured already")
        path.parent.mkdir(parents=True)
        if config:
            (self.repository / name / "config.pbtxt").write_text(config)
        return path


def _identity() -> onnx.ModelProto:
    dims: list[str | int | None] = ["N", MEBIBYTE_OF_FP32]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])],
        "identity",
        [helper.make_tensor_value_info("INPUT0", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("OUTPUT0", TensorProto.FLOAT, dims)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


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
