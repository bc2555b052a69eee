"""Inference requests: sound ones, and what hostile callers make of them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import hypothesis.strategies as st
from fuzz.models import MODELS, Model, Tensor, text_bytes
from tritonclient.grpc import service_pb2 as pb

from naiad.core.datatypes import DataType

if TYPE_CHECKING:
    from collections.abc import Callable

    Draw = Callable[[st.SearchStrategy[Any]], Any]
    Mutation = Callable[[Draw, pb.ModelInferRequest], None]

INT64 = (-(2**63), 2**63 - 1)
EDGES = [0, 1, -1, 2, 8, 9, 64, 65_536, 2**31 - 1, 2**31, 2**32, 2**61, 2**62, 2**63 - 1, -(2**63)]
MANY = 100_000
REGION = "shared_memory_region"

integers = st.one_of(st.sampled_from(EDGES), st.integers(*INT64))
sizes = st.sampled_from([0, 1, 2, 3, 17, 64, 255, 1_000])
shapes = st.one_of(
    st.lists(integers, max_size=5),
    st.sampled_from([[2**32, 2**32], [2**32, 2**31], [2**62, 2, 2], [1] * 65, [2**31] * 3, [8, 2**60]]),
)
texts = st.one_of(
    st.sampled_from(
        [
            "",
            "x",
            "simple",
            "..",
            "../simple",
            "a/b",
            "/etc/passwd",
            " ..",
            "\x00",
            "%s%n",
            "x" * 5000,
            "😀" * 2000,
            "\n\t\r",
            "simple\x00",
            "INPUT0",
            "OUTPUT0",
            "INPUT1",
            "OUTPUT1",
        ]
    ),
    st.text(max_size=20),
)
"""Text that UTF-8 can say, as protobuf wants it."""

versions = st.one_of(
    st.sampled_from(["", "1", "0", "-1", "2", "01", "1abc", " 1", "9" * 19, "9" * 5_000, "0" * 5_000 + "1"]),
    st.text(max_size=8),
)
datatypes = st.one_of(st.sampled_from([datatype.value for datatype in DataType]), st.text(max_size=8))
keys = st.one_of(
    st.sampled_from(
        [
            "sequence_id",
            "sequence_start",
            "sequence_end",
            "priority",
            "timeout",
            "headers",
            "classification",
            "triton_enable_empty_final_response",
            "triton_x",
            "binary_data_output",
            "binary_data_size",
            REGION,
            "shared_memory_offset",
            "shared_memory_byte_size",
            "",
            "naiad.x",
        ]
    ),
    st.text(max_size=8),
)


@st.composite
def parameters(draw: Draw) -> pb.InferParameter:
    """A parameter of any kind, or of none."""
    kind = draw(st.sampled_from(["bool", "int64", "string", "double", "uint64", ""]))
    values: dict[str, st.SearchStrategy[Any]] = {
        "bool": st.booleans(),
        "int64": integers,
        "string": texts,
        "double": st.floats(),
        "uint64": st.integers(0, 2**64 - 1),
    }
    return pb.InferParameter(**{f"{kind}_param": draw(values[kind])}) if kind else pb.InferParameter()


@st.composite
def infer_requests(draw: Draw, *, max_faults: int = 3) -> pb.ModelInferRequest:
    """A request to one of `MODELS` with up to `max_faults` mutations."""
    request = draw(sound_requests())
    for mutate in draw(st.lists(st.sampled_from(MUTATIONS), max_size=max_faults)):
        mutate(draw, request)
    return request


@st.composite
def sound_requests(draw: Draw) -> pb.ModelInferRequest:
    """A request that a model takes, its data raw or typed."""
    model: Model = draw(st.sampled_from(MODELS))
    request = pb.ModelInferRequest(model_name=model.name, id=draw(st.sampled_from(["", "7", "id"])))
    batch = [draw(st.integers(1, 8))] if model.is_batched else []
    is_typed = draw(st.booleans()) and all(tensor.datatype != "FP16" for tensor in model.inputs)
    for tensor in model.inputs:
        shape = batch + [draw(st.integers(0, 4)) if dim == -1 else dim for dim in tensor.dims]
        target = request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
        _add_data(draw, request, target, tensor, is_typed=is_typed)
    for name in draw(st.sampled_from([(), model.outputs, model.outputs[:1]])):
        request.outputs.add(name=name)
    if model.name == "sequence":
        request.parameters["sequence_id"].int64_param = draw(st.integers(1, 50))
        request.parameters["sequence_start"].bool_param = draw(st.booleans())
        request.parameters["sequence_end"].bool_param = draw(st.booleans())
    return request


def _add_data(draw: Draw, request: Any, target: Any, tensor: Tensor, *, is_typed: bool) -> None:
    count = 1
    for dim in target.shape:
        count *= dim
    if tensor.datatype == "BYTES":
        elements = [draw(st.binary(max_size=12))] * count
        if is_typed:
            target.contents.bytes_contents[:] = elements
        else:
            request.raw_input_contents.append(text_bytes(*elements))
        return
    if not is_typed:
        itemsize = DataType(tensor.datatype).itemsize
        piece = draw(st.binary(min_size=itemsize, max_size=itemsize))
        request.raw_input_contents.append(piece * count)
    elif tensor.datatype == "FP32":
        target.contents.fp32_contents[:] = [draw(st.floats(width=32))] * count
    elif tensor.datatype == "BOOL":
        target.contents.bool_contents[:] = [draw(st.booleans())] * count
    elif tensor.datatype == "UINT8":
        target.contents.uint_contents[:] = [draw(st.integers(0, 2**32 - 1))] * count
    else:
        target.contents.int_contents[:] = [draw(st.integers(-(2**31), 2**31 - 1))] * count


def _rename(draw: Draw, request: pb.ModelInferRequest) -> None:
    setattr(request, draw(st.sampled_from(["model_name", "id"])), draw(texts))


def _other_version(draw: Draw, request: pb.ModelInferRequest) -> None:
    request.model_version = draw(versions)


def _request_parameter(draw: Draw, request: pb.ModelInferRequest) -> None:
    request.parameters[draw(keys)].CopyFrom(draw(parameters()))


def _input_field(draw: Draw, request: pb.ModelInferRequest) -> None:
    if not request.inputs:
        return
    tensor = request.inputs[draw(st.integers(0, len(request.inputs) - 1))]
    field = draw(st.sampled_from(["name", "datatype", "shape", "dim", "parameter", "region", "contents"]))
    if field == "name":
        tensor.name = draw(texts)
    elif field == "datatype":
        tensor.datatype = draw(datatypes)
    elif field == "shape":
        tensor.shape[:] = draw(shapes)
    elif field == "dim" and tensor.shape:
        tensor.shape[draw(st.integers(0, len(tensor.shape) - 1))] = draw(integers)
    elif field == "parameter":
        tensor.parameters[draw(keys)].CopyFrom(draw(parameters()))
    elif field == "region":
        _region(draw, tensor)
    elif field == "contents":
        _contents(draw, tensor.contents)


def _region(draw: Draw, tensor: Any) -> None:
    tensor.parameters[REGION].string_param = draw(st.sampled_from(["region", "region", "other", "\0", ""]))
    tensor.parameters["shared_memory_byte_size"].int64_param = draw(
        st.one_of(st.sampled_from([64, 64, 1_024, 4_096, 4_097]), integers)
    )
    if draw(st.booleans()):
        tensor.parameters["shared_memory_offset"].int64_param = draw(
            st.one_of(st.sampled_from([0, 8]), integers)
        )


def _contents(draw: Draw, contents: Any) -> None:
    field = draw(st.sampled_from(["bool", "int", "int64", "uint", "uint64", "fp32", "fp64", "bytes"]))
    values = getattr(contents, f"{field}_contents")
    count = draw(sizes)
    values.extend([b"\xff\0" if field == "bytes" else 1] * count)


def _inputs(draw: Draw, request: pb.ModelInferRequest) -> None:
    change = draw(st.sampled_from(["again", "fewer", "none", "more", "many"]))
    if change == "again" and request.inputs:
        request.inputs.append(request.inputs[0])
    elif change == "fewer" and request.inputs:
        del request.inputs[0]
    elif change == "none":
        del request.inputs[:]
    elif change == "more":
        request.inputs.add(name=draw(texts), datatype=draw(datatypes), shape=draw(shapes))
    else:
        for index in range(200):
            request.inputs.add(name=str(index))


def _outputs(draw: Draw, request: pb.ModelInferRequest) -> None:
    output = request.outputs.add(name=draw(st.one_of(st.sampled_from(["OUTPUT0", "OUTPUT"]), texts)))
    change = draw(st.sampled_from(["", "", "parameter", "region", "classification", "again", "many"]))
    if change == "parameter":
        output.parameters[draw(keys)].CopyFrom(draw(parameters()))
    elif change == "region":
        _region(draw, output)
    elif change == "classification":
        output.parameters["classification"].int64_param = draw(st.one_of(integers, st.integers(1, 9)))
    elif change:
        request.outputs.extend([output] * (1 if change == "again" else 2_000))


def _raw(draw: Draw, request: pb.ModelInferRequest) -> None:
    raw = request.raw_input_contents
    change = draw(st.sampled_from(["cut", "longer", "fewer", "more", "other", "length"]))
    if change == "more" or not raw:
        raw.append(draw(st.binary(max_size=64)))
        return
    index = draw(st.integers(0, len(raw) - 1))
    if change == "cut":
        raw[index] = raw[index][: draw(st.integers(0, len(raw[index])))]
    elif change == "longer":
        raw[index] += draw(st.binary(min_size=1, max_size=16))
    elif change == "fewer":
        del raw[index]
    elif change == "other":
        raw[index] = draw(st.binary(max_size=300))
    else:
        # A text whose length says more, or less, than there is.
        raw[index] = struct.pack("<I", draw(st.integers(0, 2**32 - 1))) + raw[index][4:]


MUTATIONS: tuple[Mutation, ...] = (
    _rename,
    _other_version,
    _request_parameter,
    _input_field,
    _input_field,
    _inputs,
    _outputs,
    _raw,
    _raw,
)


@st.composite
def wire_messages(draw: Draw) -> bytes:
    """A serialized request of which some bytes are others: perhaps a message, perhaps none."""
    data: bytes = draw(infer_requests(max_faults=1)).SerializeToString()
    result: bytes = draw(damaged(data, most=2))
    return result


@st.composite
def damaged(draw: Draw, data: bytes, *, most: int = 6) -> bytes:
    """The bytes with some flipped, put in, taken out or cut off."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, most))):
        position = draw(st.integers(0, len(changed)))
        change = draw(st.sampled_from(["flip", "insert", "remove", "cut", "repeat"]))
        if change == "insert":
            changed[position:position] = draw(st.binary(min_size=1, max_size=4))
        elif change == "remove":
            del changed[position : position + draw(st.integers(1, 8))]
        elif change == "cut":
            del changed[position:]
        elif change == "repeat":
            changed[position:position] = changed[max(0, position - 20) : position]
        elif position < len(changed):
            changed[position] ^= draw(st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128, 255]))
    return bytes(changed)
