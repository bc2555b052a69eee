"""The wire forms of tensors, datatype by datatype."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import serialize_byte_tensor

from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError, NotFoundError
from naiad.services.contents import BoundContent, bind_contents, bytes_array, numeric_array, raw_contents

if TYPE_CHECKING:
    from naiad.services.shared_memory.table import Lease

NUMERIC = [datatype for datatype in DataType if datatype is not DataType.BYTES]


class NoRegions:
    """No region is registered."""

    def lease(self, name: str, offset: int, byte_size: int) -> Lease:
        raise NotFoundError(name)


def bound(request: pb.ModelInferRequest) -> list[BoundContent]:
    with ExitStack() as leases:
        return bind_contents(request, None, NoRegions(), leases)


def typed(datatype: str, **contents: list[object]) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="m")
    request.inputs.add(name="I", datatype=datatype, shape=[2], contents=pb.InferTensorContents(**contents))
    return request


@pytest.mark.parametrize("datatype", NUMERIC, ids=lambda datatype: datatype.value)
def test_numbers_are_viewed_not_copied_and_go_back_the_same(datatype: DataType) -> None:
    data = bytes(range(4 * datatype.itemsize)) if datatype is not DataType.BOOL else b"\0\1\1\0"
    array = numeric_array(data, datatype, (2, 2), name="I", model="m", prefix="")
    assert array.base is not None
    assert not array.flags.writeable
    assert raw_contents(array, datatype) == data


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=10))
def test_bytes_elements_go_there_and_back(elements: list[bytes]) -> None:
    wire = serialize_byte_tensor(np.array(elements, dtype=object)).item()
    array = bytes_array(wire, (len(elements),), name="I", model="m", prefix="")
    assert array.tolist() == elements
    assert raw_contents(array, DataType.BYTES) == wire


@pytest.mark.parametrize("dim", [2**60, 2**62, 2**63 - 1])
def test_dims_that_no_array_has_are_refused_beside_a_zero_too(dim: int) -> None:
    """There is nothing in such a tensor, and numpy raises for it all the same."""
    with pytest.raises(InvalidArgumentError, match="byte size for tensor 'I' exceeds maximum size of "):
        numeric_array(b"", DataType.FP64, (1, 0, dim), name="I", model="m", prefix="")
    with pytest.raises(InvalidArgumentError, match="byte size for tensor 'I' exceeds maximum size of "):
        bytes_array(b"", (1, 0, dim), name="I", model="m", prefix="")


def test_large_dims_beside_a_zero_are_an_empty_tensor() -> None:
    assert numeric_array(b"", DataType.FP64, (1, 0, 2**59), name="I", model="m", prefix="").size == 0
    assert bytes_array(b"", (1, 0, 2**59), name="I", model="m", prefix="").size == 0


@given(st.binary(max_size=60), st.integers(0, 5))
def test_no_bytes_make_the_element_parser_do_more_than_refuse(data: bytes, count: int) -> None:
    try:
        array = bytes_array(data, (count,), name="I", model="m", prefix="")
    except InvalidArgumentError:
        return
    assert array.shape == (count,)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\1\0\0\0a", "expected 2 string elements for inference input 'I' for model 'm', got 1"),
        (b"\1\0\0\0a" * 3, "unexpected number of string elements 3 .* expecting 2"),
        (b"\1\0\0\0a\1\0", "incomplete string length indicator .* only 2 bytes available"),
        (b"\1\0\0\0a\xff\xff\xff\xffb", "incomplete string data .* of length 4294967295 but only 1 bytes"),
        (b"\xff\xff\xff\xffb", "expected 2 string elements .* got 1"),
        (b"", "expected 2 string elements .* got 0"),
    ],
)
def test_malformed_bytes_tensors_are_refused_in_tritons_words(data: bytes, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        bytes_array(data, (2,), name="I", model="m", prefix="")


@pytest.mark.parametrize(
    ("datatype", "field", "values", "expected"),
    [
        ("BOOL", "bool_contents", [True, False], b"\1\0"),
        ("INT8", "int_contents", [-1, 2], b"\xff\2"),
        ("INT16", "int_contents", [-1, 2], b"\xff\xff\2\0"),
        ("INT32", "int_contents", [1, 2], b"\1\0\0\0\2\0\0\0"),
        ("INT64", "int64_contents", [1, 2], b"\1" + b"\0" * 7 + b"\2" + b"\0" * 7),
        ("UINT8", "uint_contents", [255, 2], b"\xff\2"),
        ("UINT16", "uint_contents", [1, 2], b"\1\0\2\0"),
        ("UINT32", "uint_contents", [1, 2], b"\1\0\0\0\2\0\0\0"),
        ("UINT64", "uint64_contents", [1, 2], b"\1" + b"\0" * 7 + b"\2" + b"\0" * 7),
        ("FP32", "fp32_contents", [1.0, 2.0], np.array([1, 2], "<f4").tobytes()),
        ("FP64", "fp64_contents", [1.0, 2.0], np.array([1, 2], "<f8").tobytes()),
        ("INT8", "int_contents", [257, 2], b"\1\2"),
    ],
)
def test_typed_contents_become_the_bytes_of_their_datatype(
    datatype: str, field: str, values: list[object], expected: bytes
) -> None:
    """257 as INT8 keeps its low byte, as Triton does it."""
    assert bound(typed(datatype, **{field: values})) == [expected]


def test_typed_bytes_contents_are_elements() -> None:
    assert bound(typed("BYTES", bytes_contents=[b"a", b"\xff\0"])) == [[b"a", b"\xff\0"]]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            typed("INT32", fp32_contents=[1.0]),
            "unexpected explicit tensor data for input tensor 'I' for model 'm' of type 'FP32', expected datatype 'INT32'",
        ),
        (typed("INT32", int_contents=[1], fp32_contents=[1.0]), "binary data was already supplied."),
        (typed("FP16", fp32_contents=[1.0]), "of type 'FP32', expected datatype 'FP16'"),
    ],
)
def test_typed_contents_in_the_wrong_field_are_refused(request_: pb.ModelInferRequest, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        bound(request_)


def test_raw_and_typed_contents_never_mix() -> None:
    request = typed("INT32", int_contents=[1, 2])
    request.raw_input_contents.append(b"")
    with pytest.raises(InvalidArgumentError, match="contents field must not be specified when using raw"):
        bound(request)


def test_an_input_without_data_is_named() -> None:
    request = pb.ModelInferRequest(model_name="m")
    request.inputs.add(name="I", datatype="INT32", shape=[1])
    with pytest.raises(
        InvalidArgumentError, match="unable to find data for input tensor 'I' for model 'm' in request."
    ):
        bound(request)


@pytest.mark.parametrize("shape", [(2**40,), (2**62, 4), (2**62, 2)])
def test_a_huge_shape_is_refused_before_anything_is_allocated(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgumentError):
        numeric_array(b"\0\0\0\0", DataType.FP32, shape, name="I", model="m", prefix="")
    with pytest.raises(InvalidArgumentError):
        bytes_array(b"", shape, name="I", model="m", prefix="")


def test_an_empty_tensor_needs_no_bytes() -> None:
    assert numeric_array(b"", DataType.FP32, (1, 0), name="I", model="m", prefix="").shape == (1, 0)
