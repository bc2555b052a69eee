"""The models that are fuzzed, and a request to each whose answer is known."""

from __future__ import annotations

import contextlib
import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from onnx import TensorProto
from support.onnx_models import add_sub, identity
from support.repositories import ADD_SUB_CONFIG, add_model
from support.sequences import CONTROL_INPUTS, IO, dyna_sequence
from tritonclient.grpc import service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator


REGION_BYTES = 4_096
SPARE = "spare"
"""A model that is there to be unloaded: the server then returns what is free on its heaps to the system."""


class Tensor(NamedTuple):
    """An input as the config has it; `dims` without the batch dimension, -1 for any size."""

    name: str
    datatype: str
    dims: tuple[int, ...]


class Model(NamedTuple):
    """A model as a caller knows it."""

    name: str
    is_batched: bool
    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...]


_ONE = ("OUTPUT0",)
MODELS = (
    Model(
        "simple",
        True,
        (Tensor("INPUT0", "INT32", (16,)), Tensor("INPUT1", "INT32", (16,))),
        ("OUTPUT0", "OUTPUT1"),
    ),
    Model("text", True, (Tensor("INPUT0", "BYTES", (-1,)),), _ONE),
    Model("word", True, (Tensor("INPUT0", "BYTES", (1,)),), _ONE),
    Model("matrix", False, (Tensor("INPUT0", "FP32", (-1, -1)),), _ONE),
    Model("merged", True, (Tensor("INPUT0", "FP32", (-1,)),), _ONE),
    Model("half", True, (Tensor("INPUT0", "FP16", (4,)),), _ONE),
    Model("flags", False, (Tensor("INPUT0", "BOOL", (-1,)),), _ONE),
    Model("bytes8", False, (Tensor("INPUT0", "UINT8", (-1, 3)),), _ONE),
    Model("sequence", True, (Tensor("INPUT", "INT32", (1,)),), ("OUTPUT",)),
)
"""Every kind of tensor and of scheduler, in the smallest graphs."""

_ELEMENTS = {
    "BYTES": TensorProto.STRING,
    "FP32": TensorProto.FLOAT,
    "FP16": TensorProto.FLOAT16,
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
}
_CONFIG_NAMES = {"BYTES": "STRING"}


def write_repository(root: Path) -> Path:
    """Write every model below `root`, and return it."""
    add_model(root, "simple", add_sub(), ADD_SUB_CONFIG)
    add_model(root, SPARE, add_sub(), ADD_SUB_CONFIG)
    add_model(
        root,
        "sequence",
        dyna_sequence(),
        "max_batch_size: 8 sequence_batching { max_sequence_idle_microseconds: 100000 oldest { "
        f"max_candidate_sequences: 16 }} {CONTROL_INPUTS % 'UINT64'} }} {IO}",
    )
    for model in MODELS:
        if model.outputs == _ONE:
            (tensor,) = model.inputs
            dims = [None if dim == -1 else dim for dim in tensor.dims]
            graph = identity(_ELEMENTS[tensor.datatype], ["N", *dims] if model.is_batched else dims)
            add_model(root, model.name, graph, _identity_config(model))
    return root


def _identity_config(model: Model) -> str:
    (tensor,) = model.inputs
    datatype = _CONFIG_NAMES.get(tensor.datatype, tensor.datatype)
    body = f"data_type: TYPE_{datatype} dims: {list(tensor.dims)}"
    text = f'input [ {{ name: "INPUT0" {body} }} ] output [ {{ name: "OUTPUT0" {body} }} ]'
    text += f" max_batch_size: {8 if model.is_batched else 0}"
    if model.name == "merged":
        text += " dynamic_batching { max_queue_delay_microseconds: 100 }"
    return text


@contextlib.contextmanager
def shared_memory_object() -> Iterator[str]:
    """The key of an object of system shared memory, `REGION_BYTES` long."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="naiad-fuzz-") as file:
        file.truncate(REGION_BYTES)
        yield Path(file.name).name


def good_request(value: int = 7) -> pb.ModelInferRequest:
    """A request to `simple` that must be answered."""
    request = pb.ModelInferRequest(model_name="simple", id=str(value))
    for name, row in (("INPUT0", np.arange(16)), ("INPUT1", np.full(16, value))):
        request.inputs.add(name=name, datatype="INT32", shape=[1, 16])
        request.raw_input_contents.append(row.astype(np.int32).tobytes())
    return request


def is_right_answer(response: pb.ModelInferResponse, value: int = 7) -> bool:
    """Whether it is the one right answer to `good_request`."""
    expected = [(np.arange(16) + value).astype(np.int32), (np.arange(16) - value).astype(np.int32)]
    return (
        response.id == str(value)
        and [output.name for output in response.outputs] == ["OUTPUT0", "OUTPUT1"]
        and list(response.raw_output_contents) == [row.tobytes() for row in expected]
    )


def text_bytes(*elements: bytes) -> bytes:
    """A BYTES tensor's raw data."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)
