"""Plain tensors of two answers: tolerances by datatype, what is not finite, missing and misshapen outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.agreement import plain_model

from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.vision.agreement import (
    TensorAgreement,
    agree,
    agreement_from_dict,
    agreement_to_dict,
    signs,
)


def compared(baseline: Any, candidate: Any, datatype: DataType = DataType.FP32) -> TensorAgreement:
    config = plain_model(y=datatype)
    found = agree(None, config, {"y": np.asarray(baseline)}, {"y": np.asarray(candidate)}, {})
    assert isinstance(found, TensorAgreement)
    return found


def floats(*values: float, kind: Any = np.float32) -> Any:
    return np.array(values, kind)


@pytest.mark.parametrize(
    ("kind", "within", "beyond"),
    [(np.float32, 1e-3, 2e-3), (np.float64, 1e-3, 2e-3), (np.float16, 1e-2, 2e-2)],
)
def test_numbers_are_the_same_within_the_tolerance_of_their_datatype(
    kind: Any, within: float, beyond: float
) -> None:
    one = floats(100, 100, kind=kind)
    assert compared(one, one * kind(1 + 0.9 * within)).mismatched == 0
    assert compared(one, one * np.array([1, 1 + beyond], kind)).mismatched == 1


def test_one_side_in_half_precision_is_compared_with_its_tolerance() -> None:
    assert compared(floats(1000), floats(1005, kind=np.float16)).mismatched == 0


def test_brain_floats_are_compared_as_the_numbers_that_their_bits_are() -> None:
    def bits(*values: float) -> Any:
        return (floats(*values).view(np.uint32) >> 16).astype(np.uint16)

    near = compared(bits(1.0, -2.0), bits(1.01, -2.0), DataType.BF16)
    assert near.mismatched == 0
    assert near.max_difference == pytest.approx(0.0078125)
    assert compared(bits(1.0, -2.0), bits(1.5, 2.0), DataType.BF16).mismatched == 2
    assert compared(bits(1.0), floats(1.0), DataType.BF16).mismatched == 0
    told = signs(None, plain_model(y=DataType.BF16), {"y": bits(np.nan)}, {"x": floats(1)})
    assert not told.is_finite


def test_whole_numbers_and_booleans_must_be_equal() -> None:
    found = compared(np.array([1, 2, 250], np.uint8), np.array([1, 3, 0], np.uint8), DataType.UINT8)
    assert (found.values, found.mismatched, found.max_difference) == (3, 2, 250.0)
    assert found.disagreement == pytest.approx(2 / 3 * (0.5 + 0.5 * 2 / 3))
    assert compared([True, False], [True, True], DataType.BOOL).mismatched == 1


def test_texts_must_be_equal() -> None:
    one = np.array([b"cat", b"dog"], np.object_)
    assert compared(one, one.copy(), DataType.BYTES) == TensorAgreement(2, 0, 0.0, 0.0)
    assert compared(one, np.array([b"cat", b"cow"], np.object_), DataType.BYTES).mismatched == 1


def test_what_is_not_finite_is_the_same_only_if_both_have_it() -> None:
    one = floats(np.nan, np.inf, -np.inf, 1)
    assert compared(one, one) == TensorAgreement(4, 0, 0.0, 0.0)
    assert compared(one, floats(1, np.inf, -np.inf, 1)).mismatched == 1
    assert compared(one, floats(np.nan, -np.inf, np.inf, np.nan)).mismatched == 3
    assert compared(one, floats(np.nan, 1e30, -np.inf, 1)).mismatched == 1
    assert compared(floats(1, 2), floats(np.nan, np.nan)).disagreement == 1


def test_another_shape_or_no_output_at_all_is_mismatched_throughout() -> None:
    assert compared(floats(1, 2), floats(1, 2, 3)) == TensorAgreement(3, 3, 0.0, 1.0)
    assert compared(floats(1, 2), floats(1, 2).reshape(1, 2)).mismatched == 2
    config = plain_model(y=DataType.FP32)
    assert agree(None, config, {"y": floats(1, 2)}, {}, {}) == TensorAgreement(2, 2, 0.0, 1.0)
    beside = {"y": floats(1, 2), "z": floats(5)}
    assert agree(None, config, {"y": floats(1, 2)}, beside, {}) == TensorAgreement(2, 0, 0.0, 0.0)


def test_of_outputs_that_differ_throughout_the_one_that_is_further_away_disagrees_more() -> None:
    one = floats(1, 2, 3)
    near, far, opposite = compared(one, one * 1.1), compared(one, one * 3), compared(one, -one)
    assert near.mismatched == far.mismatched == 3
    assert 0.5 < near.disagreement < far.disagreement < opposite.disagreement
    assert opposite.disagreement == pytest.approx(1)


def test_numbers_too_large_to_subtract_are_no_fault() -> None:
    found = compared(floats(3e38, 1), floats(-3e38, 1))
    assert found.mismatched == 1
    assert np.isfinite(found.max_difference)
    assert 0.5 <= found.disagreement <= 1


def test_answers_without_values_agree() -> None:
    assert compared(np.empty((0, 3), np.float32), np.empty((0, 3), np.float32)) == TensorAgreement(
        0, 0, 0.0, 0.0
    )


ANY_FLOATS = hnp.arrays(np.float32, 6, elements=st.floats(width=32))


@given(ANY_FLOATS, ANY_FLOATS)
def test_figures_are_within_bounds_and_plain_whatever_the_numbers(one: Any, other: Any) -> None:
    found = compared(one, other)
    assert 0 <= found.mismatched <= found.values == 6
    assert 0 <= found.disagreement <= 1
    assert (found.disagreement == 0) == (found.mismatched == 0)
    assert np.isfinite(found.max_difference)
    assert compared(one, one).mismatched == 0


def test_an_answer_shows_its_rows_and_whether_it_is_finite() -> None:
    config = plain_model(y=DataType.FP32, z=DataType.INT32)
    outputs = {"y": floats(1, 2, 3), "z": np.array([1, 2, 3], np.int32)}
    told = signs(None, config, outputs, {"x": floats(1, 2, 3)})
    assert (told.task, told.rows, told.detections, told.top_score, told.norm) == (
        "tensors",
        3,
        None,
        None,
        None,
    )
    assert told.is_finite
    assert not signs(None, config, outputs | {"y": floats(np.inf)}, {"x": floats(1)}).is_finite
    assert signs(None, plain_model(0, y=DataType.FP32), outputs, {"x": floats(1, 2, 3)}).rows == 1


def test_figures_survive_json() -> None:
    found = compared(floats(1, 2), floats(1, 3))
    assert agreement_from_dict(agreement_to_dict(found)) == found
    for broken in ({}, {"task": "tensors"}, agreement_to_dict(found) | {"task": "detect"}):
        with pytest.raises(InvalidArgumentError, match="no agreement has these figures"):
            agreement_from_dict(broken)
