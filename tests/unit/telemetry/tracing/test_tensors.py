"""What a trace keeps of tensors: bounded, and readable as Triton's files are."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from naiad.core.datatypes import DataType
from naiad.telemetry.tracing.tensors import MAX_BYTES_VALUE, MAX_VALUES, record


@pytest.mark.parametrize(
    ("array", "datatype", "data"),
    [
        (np.array([[0.1, -2.5]], np.float32), "FP32", "0.1,-2.5"),
        (np.array([1.5], np.float16), "FP16", "1.5"),
        (np.array([True, False]), "BOOL", "1,0"),
        (np.array([255, 0], np.uint8), "UINT8", "255,0"),
        (np.array([7], np.uint16), "UINT16", "7"),
        (np.array([-(2**63)], np.int64), "INT64", "-9223372036854775808"),
        (np.array([b"a", b'say "x"', b"\xff"], np.object_), "BYTES", '"a","say ""x""","\ufffd"'),
        (np.zeros((0,), np.float32), "FP32", ""),
    ],
)
def test_values_are_printed_by_datatype(array: np.ndarray, datatype: str, data: str) -> None:
    kept = record("A", "x", array)
    assert (kept.datatype, kept.data(), kept.shape, kept.omitted) == (datatype, data, array.shape, 0)


def test_bf16_is_printed_as_the_numbers_that_its_bits_mean() -> None:
    bits = np.array([1.5, -2.0], ml_dtypes.bfloat16).view(np.uint16)
    kept = record("A", "x", bits, DataType.BF16)
    assert (kept.datatype, kept.data()) == ("BF16", "1.5,-2.0")


def test_a_large_tensor_is_cut_counted_and_not_held() -> None:
    """The copy must not keep the request's memory alive."""
    array = np.arange(2 * 3 * MAX_VALUES).reshape(2, 3, MAX_VALUES)[:, ::-1]
    kept = record("A", "x", array)
    assert kept.shape == (2, 3, MAX_VALUES)
    assert (kept.values.size, kept.omitted) == (MAX_VALUES, 5 * MAX_VALUES)
    assert kept.values[0] == array[0, 0, 0]
    assert kept.values.base is None


def test_a_long_bytes_value_is_cut() -> None:
    kept = record("A", "x", np.array([b"z" * 10_000], np.object_))
    assert kept.data() == '"' + "z" * MAX_BYTES_VALUE + '"'
