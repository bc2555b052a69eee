"""Answers that are near enough pass, whatever else is told with the output and by how much."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from support.runtime import config

from naiad.config.model_config import TensorConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import InternalError
from naiad.runtime.tensorrt.options import Precision
from naiad.runtime.tensorrt.plan import EnginePlan
from naiad.runtime.tensorrt.shapes import ShapeRange
from naiad.runtime.tensorrt.verify import TOLERANCES, check_answers, describe, difference, make_feeds

if TYPE_CHECKING:
    from naiad.core.tensors import Array

SOURCE = np.random.default_rng(3)
EXPECTED = SOURCE.normal(size=(4, 100)).astype(np.float32)


def off_by(share: float) -> Array:
    """EXPECTED, each value off by that share of the values' mean size."""
    noise = np.where(SOURCE.random(EXPECTED.shape) < 0.5, -1, 1)
    given: Array = (EXPECTED + share * np.sqrt(np.mean(EXPECTED**2)) * noise).astype(np.float32)
    return given


def check(given: Array, expected: Array = EXPECTED, precision: Precision = Precision.FP32) -> None:
    check_answers({"out": given}, {"out": expected}, precision)


@pytest.mark.parametrize("precision", list(Precision))
def test_each_precision_has_its_tolerance(precision: Precision) -> None:
    allowed = TOLERANCES[precision]
    check(off_by(allowed * 0.9), precision=precision)
    with pytest.raises(InternalError) as caught:
        check(off_by(allowed * 1.2), precision=precision)
    assert f"its output 'out' is off CUDA's by {allowed * 1.2:.2g} in the mean" in caught.value.message
    assert f"are allowed in {precision.value}" in caught.value.message


def test_one_value_that_is_far_off_is_seen_among_many_that_are_right() -> None:
    given = EXPECTED.copy()
    given[2, 7] += 0.2 * np.abs(EXPECTED).max()
    with pytest.raises(InternalError, match="0.2 at worst"):
        check(given)


def test_another_shape_is_told() -> None:
    """Such as a detector that finds another number of boxes."""
    with pytest.raises(InternalError, match=r"has shape \[3, 100\] in place of CUDA's \[4, 100\]"):
        check(EXPECTED[:3])


def test_whole_numbers_count_by_the_share_that_differs() -> None:
    labels = np.arange(1_000)
    given = labels.copy()
    given[:5] = -1
    check(given, labels)
    given[:50] = -1
    with pytest.raises(InternalError, match="off CUDA's by 0.05 in the mean"):
        check(given, labels)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_values_that_are_not_finite_must_be_the_same(value: float) -> None:
    expected = EXPECTED.copy()
    expected[0, 0] = value
    check(expected, expected)
    with pytest.raises(InternalError, match="inf in the mean"):
        check(EXPECTED, expected)
    with pytest.raises(InternalError, match="inf in the mean"):
        check(expected, EXPECTED)


def test_zeros_and_nothing_at_all_can_be_compared() -> None:
    nothing = np.zeros((0, 4), np.float32)
    assert difference(nothing, nothing) == (0, 0)
    zeros = np.zeros(10, np.float32)
    assert difference(zeros, zeros) == (0, 0)
    assert difference(zeros + 0.5, zeros) == (0.5, 0.5)


def test_bf16_is_read_from_its_bits() -> None:
    def bits(array: Array) -> Array:
        return (array.view(np.uint32) >> 16).astype(np.uint16)

    near = bits(off_by(0.01))
    check_answers({"out": near}, {"out": bits(EXPECTED)}, Precision.BF16, {"out"})
    with pytest.raises(InternalError):
        check_answers({"out": bits(off_by(0.3))}, {"out": bits(EXPECTED)}, Precision.BF16, {"out"})


def test_every_batch_size_and_both_ends_of_a_declared_range_are_tried() -> None:
    image = TensorConfig("image", DataType.FP32, (3, -1, -1))
    scale = TensorConfig("scale", DataType.INT64, (1,))
    plan = EnginePlan({}, (1, 2, 4), {"image": ShapeRange((3, 8, 8), (3, 16, 16), (3, 32, 24))})
    feeds = list(make_feeds(config(max_batch_size=4, inputs=(image, scale)), plan))
    assert [each["image"].shape for each in feeds] == [
        (1, 3, 16, 16),
        (2, 3, 16, 16),
        (4, 3, 16, 16),
        (1, 3, 8, 8),
        (1, 3, 32, 24),
    ]
    assert describe(feeds[1]) == "image [2, 3, 16, 16], scale [2, 1]"
    assert len(np.unique(feeds[0]["image"])) > 100, "random"
    assert not feeds[0]["scale"].any(), "which may be an index"


@pytest.mark.parametrize("datatype", [kind for kind in DataType if kind is not DataType.BYTES])
def test_every_datatype_has_inputs_of_its_own(datatype: DataType) -> None:
    model = config(inputs=(TensorConfig("x", datatype, (5,)),))
    [feeds] = make_feeds(model, EnginePlan({}, (1,)))
    assert (feeds["x"].dtype, feeds["x"].shape) == (datatype.numpy, (5,))
