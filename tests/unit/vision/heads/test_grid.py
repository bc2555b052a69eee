"""Steps that heads over grids share: the order of cells, and thresholds that logits are held against."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.heads import plain

from naiad.core.errors import InternalError
from naiad.vision.heads.grid import batched, cell_count, cells, corners_of, input_size, logit_below, sigmoid


def test_cells_go_row_by_row_and_a_rest_of_a_stride_is_a_cell_too() -> None:
    known = cells(20, 16, 8)
    np.testing.assert_array_equal(known, [[0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8]])
    assert known.dtype == np.float32
    assert cell_count(20, 16, [8, 16]) == 6 + 2


def test_anchors_of_one_cell_follow_each_other() -> None:
    np.testing.assert_array_equal(cells(16, 8, 8, anchors=2), [[0, 0], [0, 0], [8, 0], [8, 0]])


def test_cells_that_calls_share_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        cells(16, 8, 8)[0, 0] = 1


@pytest.mark.parametrize("probability", [0.0, 1e-6, 0.3, 0.5, 0.999, 1 - 1e-7, 1.0])
def test_no_logit_that_reaches_the_threshold_is_lost(probability: float) -> None:
    """In float32, where many logits round to the same probability; and the test is near, so it saves work."""
    logits = np.linspace(-40, 40, 400_001, dtype=np.float32)
    reach = logits[sigmoid(logits) >= probability]
    assert reach.min() >= logit_below(probability)
    if 1e-6 < probability < 0.9999:
        assert float(sigmoid(np.array([logit_below(probability)], np.float32))[0]) > probability - 1e-3


def test_sigmoid_saturates_without_a_warning() -> None:
    values = sigmoid(np.array([-np.inf, -1e4, 0, 1e4, np.inf], np.float32))
    np.testing.assert_array_equal(values, [0, 0, 0.5, 1, 1])
    assert logit_below(0.0) == -math.inf


def test_corners_from_centres_and_sizes() -> None:
    boxes = corners_of(np.array([[10, 20]], np.float32), np.array([[4, 6]], np.float32))
    np.testing.assert_array_equal(boxes, [[8, 17, 12, 23]])


def test_pictures_of_one_batch_share_one_input_size() -> None:
    assert input_size([plain(64, 32), plain(64, 32)]) == (64, 32)
    with pytest.raises(InternalError, match=r"several sizes: \[\(32, 64\), \(64, 32\)\]"):
        input_size([plain(64, 32), plain(32, 64)])


def test_a_missing_batch_dimension_stands_for_one_picture_and_for_no_more() -> None:
    bare = {"scores": np.ones((6, 1), np.float16)}
    assert batched(bare, "scores", 1, (-1, 1)).shape == (1, 6, 1)
    with pytest.raises(InternalError, match=r"'scores' has shape \[6, 1\], \[2, any, 1\] was expected"):
        batched(bare, "scores", 2, (-1, 1))
