"""Requests and answers put together and taken apart around protobuf: what protobuf itself would read and write."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from naiad.core.datatypes import DataType
from naiad.core.errors import InternalError
from naiad.core.tensors import TensorSpec
from naiad.runtime.remote.messages import Place, Reply, infer_head, raw_content, set_place, to_wire


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_a_request_is_what_protobuf_reads(contents: list[bytes]) -> None:
    inputs = [(f"in{index}", DataType.UINT8, (len(each),)) for index, each in enumerate(contents)]
    head = infer_head("model", "3", inputs, ["out"])
    message = pb.ModelInferRequest.FromString(to_wire(head, contents))
    assert list(message.raw_input_contents) == contents
    assert (message.model_name, message.model_version) == ("model", "3")
    assert [(each.name, each.datatype, tuple(each.shape)) for each in message.inputs] == [
        (name, "UINT8", shape) for name, _, shape in inputs
    ]
    assert [each.name for each in message.outputs] == ["out"]


def test_a_place_in_shared_memory_is_told_as_triton_wants_it() -> None:
    head = infer_head("m", "", [("x", DataType.FP32, (2,))], ["y"])
    set_place(head.inputs[0], Place("region", 0, 8))
    set_place(head.outputs[0], Place("region", 64, 16))
    assert head.inputs[0].parameters["shared_memory_region"].string_param == "region"
    assert head.inputs[0].parameters["shared_memory_byte_size"].int64_param == 8
    assert "shared_memory_offset" not in head.inputs[0].parameters
    assert head.outputs[0].parameters["shared_memory_offset"].int64_param == 64


@pytest.mark.parametrize(
    ("datatype", "array"),
    [
        (DataType.FP32, np.arange(6, dtype=np.float32).reshape(2, 3)),
        (DataType.BOOL, np.array([True, False])),
        (DataType.INT64, np.arange(12, dtype=np.int64).reshape(3, 4).T),  # not row by row in memory
        (DataType.BYTES, np.array([[b"a", b""], [b"long", b"\xff"]], object)),
        (DataType.FP16, np.empty((0, 4), np.float16)),
    ],
)
def test_an_array_comes_back_as_it_went(datatype: DataType, array: Any) -> None:
    content = bytes(raw_content(array, datatype))
    answer = pb.ModelInferResponse(model_name="m", raw_output_contents=[content])
    answer.outputs.add(name="y", datatype=datatype.value, shape=array.shape)
    reply = Reply.of(answer.SerializeToString())
    spec = TensorSpec("y", datatype, None)
    np.testing.assert_array_equal(reply.tensors({"y": spec}, ["y"])["y"], array)


def reply_with(content: bytes, datatype: str = "FP32", shape: tuple[int, ...] = (2,)) -> Reply:
    answer = pb.ModelInferResponse(raw_output_contents=[content])
    answer.outputs.add(name="y", datatype=datatype, shape=shape)
    return Reply.of(answer.SerializeToString())


def test_an_answer_that_is_not_what_the_model_said_is_refused() -> None:
    specs = {"y": TensorSpec("y", DataType.FP32, (2,)), "z": TensorSpec("z", DataType.FP32, (2,))}
    with pytest.raises(InternalError, match=r"output 'y' of shape \[2\] came with 7 bytes"):
        reply_with(bytes(7)).tensors(specs, ["y"])
    with pytest.raises(InternalError, match="came as INT32, the model says FP32"):
        reply_with(bytes(8), "INT32").tensors(specs, ["y"])
    with pytest.raises(InternalError, match="no contents of output 'z'"):
        reply_with(bytes(8)).tensors(specs, ["z"])


@given(st.binary(min_size=1, max_size=60))
def test_bytes_that_are_no_answer_end_in_one_kind_of_error(data: bytes) -> None:
    try:
        Reply.of(data)
    except InternalError as error:
        assert "is no ModelInferResponse" in error.message  # noqa: PT017  # what is no error is fine
