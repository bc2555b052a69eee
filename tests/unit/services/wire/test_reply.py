"""Answers are the bytes that protobuf would write, whatever their shapes and wherever their memory lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import InferResponse, ModelKey
from naiad.services.answer import AnswerTensor, InferAnswer
from naiad.services.wire.reply import ENVELOPE_BYTES, FINAL_RESPONSE, ReplyFrame, to_stream_wire, to_wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from naiad.core.tensors import Array

LIMIT = 10_000


def answer(array: np.ndarray, datatype: DataType, request_id: str = "7") -> InferAnswer:
    tensor = AnswerTensor("OUT", datatype, array.shape, array)
    response = InferResponse(ModelKey("m", 3), {"OUT": array})
    return InferAnswer("m", "3", request_id, response, [tensor], {"why": "idle"})


def by_protobuf(found: InferAnswer, raw: bytes) -> pb.ModelInferResponse:
    reply = pb.ModelInferResponse(model_name="m", model_version="3", id=found.id, raw_output_contents=[raw])
    reply.outputs.add(name="OUT", datatype=found.tensors[0].datatype.value, shape=found.tensors[0].shape)
    reply.parameters["why"].string_param = "idle"
    return reply


TEXTS = np.array([[b"a", b""], [b"longer", b"\x00"]], dtype=object)
ARRAYS = {
    "numbers": (np.arange(6, dtype=np.float32).reshape(2, 3), DataType.FP32),
    "strided": (np.arange(12, dtype=np.int16).reshape(2, 6)[:, ::2], DataType.INT16),
    "bits": (np.arange(3, dtype=np.uint16), DataType.BF16),
    "empty": (np.empty((0, 4), np.float32), DataType.FP32),
}


@pytest.mark.parametrize(("array", "datatype"), ARRAYS.values(), ids=ARRAYS)
def test_a_reply_is_what_protobuf_would_write(array: np.ndarray, datatype: DataType) -> None:
    found = answer(array, datatype)
    wanted = by_protobuf(found, array.tobytes())
    assert pb.ModelInferResponse.FromString(to_wire(found, LIMIT)) == wanted
    wanted.parameters[FINAL_RESPONSE].bool_param = True
    streamed = pb.ModelStreamInferResponse.FromString(to_stream_wire(found, LIMIT))
    assert streamed == pb.ModelStreamInferResponse(infer_response=wanted)


def test_texts_are_prefixed_by_their_lengths() -> None:
    found = answer(TEXTS, DataType.BYTES)
    raw = b"".join(len(text).to_bytes(4, "little") + text for text in TEXTS.reshape(-1))
    assert pb.ModelInferResponse.FromString(to_wire(found, LIMIT)) == by_protobuf(found, raw)


@given(st.text(max_size=300), st.lists(st.integers(0, 40), max_size=3), st.booleans())
def test_a_filled_frame_is_what_protobuf_would_write(request_id: str, shape: list[int], final: bool) -> None:
    array = np.ones(shape, np.float32)
    outputs: list[tuple[str, DataType, Array]] = [
        ("A", DataType.FP32, array),
        ("B", DataType.UINT8, array.astype(np.uint8)),
    ]
    frame = ReplyFrame.of("m", 12, outputs, final=final)
    id_field = pb.ModelInferRequest(id=request_id).SerializeToString()
    arrays = [each for _, _, each in outputs]
    wanted = pb.ModelInferResponse(model_name="m", model_version="12", id=request_id)
    for name, datatype, each in outputs:
        wanted.outputs.add(name=name, datatype=datatype.value, shape=each.shape)
        wanted.raw_output_contents.append(each.tobytes())
    if final:
        wanted.parameters[FINAL_RESPONSE].bool_param = True
    filled = frame.fill(id_field, arrays)
    assert pb.ModelInferResponse.FromString(filled) == wanted
    assert len(filled) == frame.size + len(id_field)
    streamed = pb.ModelStreamInferResponse.FromString(frame.fill_streamed(id_field, arrays))
    assert streamed == pb.ModelStreamInferResponse(infer_response=wanted)


@pytest.mark.parametrize("write", [to_wire, to_stream_wire])
def test_a_reply_beyond_the_limit_names_its_size_and_the_limit(
    write: Callable[[InferAnswer, int], bytes],
) -> None:
    found = answer(np.zeros(1_000, np.uint8), DataType.UINT8)
    size = len(to_wire(found, LIMIT))
    assert to_wire(found, size + ENVELOPE_BYTES)
    with pytest.raises(InvalidArgumentError, match=f"byte size {size} .* limit {size + ENVELOPE_BYTES - 1}"):
        to_wire(found, size + ENVELOPE_BYTES - 1)
    with pytest.raises(InvalidArgumentError):
        write(found, 500)
