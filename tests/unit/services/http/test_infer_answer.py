"""An answer's tensors as JSON and in binary: exact, flat, in order, and without copies."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import InferResponse, ModelKey
from naiad.services.answer import AnswerTensor, InferAnswer
from naiad.services.http.infer_answer import is_heavy, write_answer


def answer(*tensors: AnswerTensor, request_id: str = "") -> InferAnswer:
    response = InferResponse(ModelKey("m", 1), {})
    return InferAnswer("m", "1", request_id, response, list(tensors))


def tensor(array: Any, datatype: DataType, name: str = "OUTPUT0") -> AnswerTensor:
    return AnswerTensor(name, datatype, array.shape, array)


def body(given: InferAnswer, *, binary: bool = False) -> Any:
    written = write_answer(given, lambda _: binary)
    return json.loads(bytes(written.parts[0]))


@pytest.mark.parametrize(
    "datatype", [each for each in DataType if each.value not in ("FP16", "BF16", "BYTES")]
)
def test_numbers_are_flat_and_exact(datatype: DataType) -> None:
    array = np.array([[0, 1], [1, 0]]).astype(datatype.numpy)
    (output,) = body(answer(tensor(array, datatype)))["outputs"]
    assert output["shape"] == [2, 2]
    assert np.array_equal(np.array(output["data"], dtype=datatype.numpy), array.reshape(-1))


def test_floats_come_back_as_they_were() -> None:
    array = np.random.default_rng(1).standard_normal(10_000).astype(np.float32)
    array[:3] = np.nan, np.inf, -np.inf
    text = write_answer(answer(tensor(array, DataType.FP32)), lambda _: False).parts[0]
    assert b"[NaN,Infinity,-Infinity," in bytes(text)
    data = json.loads(bytes(text))["outputs"][0]["data"]
    assert np.array_equal(np.array(data, dtype=np.float32), array, equal_nan=True)
    assert math.isnan(data[0])


def test_the_id_is_there_only_when_there_is_one() -> None:
    assert body(answer()) == {"model_name": "m", "model_version": "1", "outputs": []}
    assert body(answer(request_id="é\n"))["id"] == "é\n"


def test_binary_blocks_follow_in_order_as_views() -> None:
    first = np.arange(6, dtype=np.int32).reshape(2, 3)
    texts = np.array([b"ab", b""], dtype=np.object_)
    empty = np.empty((0, 3), dtype=np.float32)
    given = answer(
        tensor(first, DataType.INT32, "A"),
        tensor(empty, DataType.FP32, "B"),
        tensor(texts, DataType.BYTES, "C"),
    )
    written = write_answer(given, lambda _: True)
    head, block, last = written.parts
    assert written.json_bytes == len(head)
    sizes = [output["parameters"] for output in json.loads(bytes(head))["outputs"]]
    assert sizes == [{"binary_data_size": 24}, {"binary_data_size": 0}, {"binary_data_size": 10}]
    assert isinstance(block, memoryview)
    assert np.shares_memory(np.frombuffer(block, dtype=np.uint8), first)
    assert bytes(block) == first.tobytes()
    assert last == b"\2\0\0\0ab\0\0\0\0"


def test_without_any_block_there_is_no_json_length() -> None:
    empty = tensor(np.empty(0, dtype=np.float32), DataType.FP32)
    assert write_answer(answer(empty), lambda _: True).json_bytes is None


def test_a_tensor_in_shared_memory_has_neither_data_nor_parameters() -> None:
    shared = AnswerTensor("A", DataType.FP32, (2,), None)
    assert body(answer(shared), binary=True)["outputs"] == [{"name": "A", "datatype": "FP32", "shape": [2]}]


def test_what_json_cannot_hold_is_refused() -> None:
    half = tensor(np.zeros(1, dtype=np.float16), DataType.FP16)
    with pytest.raises(InvalidArgumentError, match="sending FP16 data via JSON is not supported"):
        write_answer(answer(half), lambda _: False)
    wrong = tensor(np.array([b"\xff"], dtype=np.object_), DataType.BYTES)
    with pytest.raises(InvalidArgumentError, match="output 'OUTPUT0' holds bytes that are not UTF-8"):
        write_answer(answer(wrong), lambda _: False)
    assert write_answer(answer(wrong), lambda _: True).parts[1] == b"\1\0\0\0\xff"


def test_texts_are_strings() -> None:
    texts = tensor(np.array(["é".encode(), b'"\n']).astype(np.object_), DataType.BYTES)
    assert body(answer(texts))["outputs"][0]["data"] == ["é", '"\n']


def test_only_long_texts_of_json_are_heavy() -> None:
    long = answer(tensor(np.zeros(5_000, dtype=np.float32), DataType.FP32))
    assert is_heavy(long, lambda _: False)
    assert not is_heavy(long, lambda _: True)
    assert not is_heavy(answer(tensor(np.zeros(10), DataType.FP64)), lambda _: False)
