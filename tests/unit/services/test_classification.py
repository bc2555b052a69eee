"""Outputs answered as their highest elements."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.services.classification import MAX_ELEMENTS, classify, parse_classification


def test_each_batch_item_is_ranked_with_its_labels() -> None:
    scores = np.array([[0.1, 0.7, 0.2, 0.0], [0.4, 0.3, 0.2, 0.1]], dtype=np.float32)
    classes = classify(scores, 2, batched=True, labels=("zero", "one", "two", "three"))
    assert classes.dtype == np.object_
    assert classes.tolist() == [
        [b"0.700000:1:one", b"0.200000:2:two"],
        [b"0.400000:0:zero", b"0.300000:1:one"],
    ]


def test_integers_are_plain_and_without_labels_there_is_no_third_part() -> None:
    classes = classify(np.arange(1, 17, dtype=np.int32).reshape(1, 16), 3, batched=True, labels=())
    assert classes.tolist() == [[b"16:15", b"15:14", b"14:13"]]


def test_an_index_beyond_the_labels_or_with_an_empty_one_has_none() -> None:
    classes = classify(np.array([3.0, 2.0, 1.0]), 3, batched=False, labels=("", "é"))
    assert classes.tolist() == [b"3.000000:0", "2.000000:1:é".encode(), b"1.000000:2"]


@pytest.mark.parametrize(
    ("shape", "batched", "k", "expected"),
    [
        ((2, 3), True, 2, (2, 2)),
        ((2, 3), True, 2**63 - 1, (2, 3)),
        ((2, 3, 4), True, 5, (2, 5)),
        ((2, 3), False, 4, (4,)),
        ((), False, 1, (1,)),
        ((3,), True, 2, (3, 1)),
        ((0, 3), True, 2, (0, 2)),
        ((2, 0), True, 2, (2, 0)),
        ((0,), False, 2, (0,)),
    ],
)
def test_shape_is_batch_by_k_and_k_is_at_most_the_elements(
    shape: tuple[int, ...], batched: bool, k: int, expected: tuple[int, ...]
) -> None:
    assert classify(np.zeros(shape, np.float32), k, batched=batched, labels=()).shape == expected


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6])
def test_ties_keep_the_order_of_their_indices(k: int) -> None:
    scores = np.array([1, 2, 1, 2, 2, 0], dtype=np.uint8)
    expected = [b"2:1", b"2:3", b"2:4", b"1:0", b"1:2", b"0:5"]
    assert classify(scores, k, batched=False, labels=()).tolist() == expected[:k]


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_nan_ranks_below_every_number_and_infinities_at_the_ends(k: int) -> None:
    scores = np.array([math.nan, -math.inf, 1.5, math.nan, math.inf])
    expected = [b"inf:4", b"1.500000:2", b"-inf:1", b"nan:0", b"nan:3"]
    assert classify(scores, k, batched=False, labels=()).tolist() == expected[:k]


@pytest.mark.parametrize(
    "dtype", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
)
def test_the_ends_of_an_integer_type_rank_right(dtype: type[np.integer]) -> None:
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    classes = classify(np.array([low, high, 1], dtype=dtype), 3, batched=False, labels=())
    assert classes.tolist() == [b"%d:1" % high, b"1:2", b"%d:0" % low]


def test_floats_print_as_c_prints_them() -> None:
    scores = np.array([1e20, 1.0, 0.1, 4e-7, -0.0], dtype=np.float32)
    assert classify(scores, 5, batched=False, labels=()).tolist() == [
        b"100000002004087734272.000000:0", b"1.000000:1", b"0.100000:2", b"0.000000:3", b"-0.000000:4",
    ]  # fmt: skip


@pytest.mark.parametrize(("k", "size"), [(5, 1000), (999, 1000), (1000, 1000), (1, 2)])
def test_the_highest_are_those_of_a_full_stable_sort(k: int, size: int) -> None:
    scores = np.random.default_rng(k).integers(-20, 20, size).astype(np.float64)
    order = sorted(range(size), key=lambda index: (-scores[index], index))[:k]
    assert classify(scores, k, batched=False, labels=()).tolist() == [
        b"%f:%d" % (scores[index], index) for index in order
    ]


@pytest.mark.parametrize(
    ("array", "datatype", "name"),
    [
        (np.zeros(2, np.float16), None, "FP16"),
        (np.zeros(2, np.bool_), None, "BOOL"),
        (np.array([b"a"], dtype=np.object_), None, "BYTES"),
        (np.zeros(2, np.uint16), DataType.BF16, "BF16"),
    ],
)
def test_types_that_triton_cannot_rank_are_refused(
    array: np.ndarray, datatype: DataType | None, name: str
) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        classify(array, 1, batched=False, labels=(), datatype=datatype)
    assert error.value.message == f"class result not available for output due to unsupported type '{name}'"


def test_an_item_of_a_million_elements_is_ranked_and_one_more_is_refused() -> None:
    limit = np.zeros((1, MAX_ELEMENTS), np.float32)
    limit[0, 77] = 1
    started = time.thread_time()
    assert classify(limit, 2, batched=True, labels=()).tolist() == [[b"1.000000:77", b"0.000000:0"]]
    assert time.thread_time() - started < 5  # seconds; a Python loop over the elements would show
    with pytest.raises(
        InvalidArgumentError, match="classification output tensor too large: .* 1000001 .* 1000000$"
    ):
        classify(np.zeros((1, MAX_ELEMENTS + 1), np.float32), 2, batched=True, labels=())


def test_the_parameter_is_a_positive_int64() -> None:
    assert parse_classification(pb.InferParameter(int64_param=2**31), "O") == 2**31


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (
            pb.InferParameter(string_param="2"),
            "invalid value type for 'classification' parameter, expected int64_param",
        ),
        (
            pb.InferParameter(uint64_param=2),
            "invalid value type for 'classification' parameter, expected int64_param",
        ),
        (pb.InferParameter(), "invalid value type for 'classification' parameter, expected int64_param"),
        (pb.InferParameter(int64_param=0), "invalid value for 'classification' parameter, expected >= 0"),
        (pb.InferParameter(int64_param=-1), "invalid value for 'classification' parameter, expected >= 0"),
    ],
)
def test_any_other_parameter_is_refused_in_triton_s_words(parameter: pb.InferParameter, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        parse_classification(parameter, "O")
    assert error.value.message == message
