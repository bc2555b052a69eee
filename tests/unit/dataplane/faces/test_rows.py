"""Rows of pictures: what is written where, which wait, and how they make requests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.vision import make_input

from naiad.config.model_config import TensorConfig
from naiad.config.vision_config import Resize
from naiad.core.datatypes import DataType
from naiad.core.errors import InternalError
from naiad.dataplane.faces.images import Picture
from naiad.dataplane.faces.rows import MAX_DEFERRED_BYTES, Row, RowBatch, batches_of
from naiad.vision.preprocess import Preprocessor
from naiad.vision.transform import Origin

FIXED = Preprocessor(make_input(), TensorConfig("input", DataType.FP32, (3, 48, 64)))
FREE = Preprocessor(
    make_input(width=None, height=None, resize=Resize.NONE),
    TensorConfig("input", DataType.FP32, (3, -1, -1)),
)


def picture(height: int, width: int, value: int = 0) -> Picture:
    return Picture(np.full((height, width, 3), value, np.uint8), Origin(width, height, 1))


def rows(preprocessor: Preprocessor, *sizes: tuple[int, int]) -> list[Row]:
    return [Row(preprocessor, picture(*size, index + 1)) for index, size in enumerate(sizes)]


@given(count=st.integers(0, 40), most=st.integers(1, 9))
def test_rows_of_one_shape_make_as_few_requests_as_they_fill(count: int, most: int) -> None:
    some = rows(FIXED, *[(48, 64)] * count)
    batches = list(batches_of(some, most))
    assert [row for batch in batches for row in batch.rows] == some
    assert len(batches) == -(-count // most)
    assert all(len(batch.rows) == most for batch in batches[:-1])


def test_rows_of_other_shapes_part_a_request() -> None:
    some = rows(FREE, (10, 20), (10, 20), (30, 20), (10, 20))
    assert [len(batch.rows) for batch in batches_of(some, 8)] == [2, 1, 1]


def test_without_a_batch_dimension_each_row_is_a_request_of_its_own_shape() -> None:
    batches = list(batches_of(rows(FIXED, (48, 64), (48, 64)), 0))
    assert [batch.shape for batch in batches] == [(3, 48, 64)] * 2
    assert (batches[1].tensor() == 2).all()


def test_a_batch_writes_all_rows_over_whatever_there_was_and_can_be_read_twice() -> None:
    batch = RowBatch(rows(FIXED, (48, 64), (24, 32)), batched=True)
    expected = np.stack([FIXED(np.full((48, 64, 3), value, np.uint8))[0] for value in (1, 2)])
    memory = np.full((2, 3, 48, 64), np.nan, np.float32)
    for _ in range(2):
        batch.read_into(memory)
        np.testing.assert_array_equal(memory, expected)
    np.testing.assert_array_equal(batch.tensor(), expected)
    assert batch.written_ns > 0
    assert batch.rows[1].transform.scale_x == 2
    assert batch.rows[1].transform.image_width == 32


def test_a_placeholder_has_the_shape_and_the_type_of_the_tensor_and_no_memory() -> None:
    batch = RowBatch(rows(FIXED, (48, 64), (24, 32)), batched=True)
    held = batch.placeholder()
    assert held.shape == (2, 3, 48, 64)
    assert held.dtype == FIXED.dtype
    assert not any(held.strides)


def test_memory_of_another_shape_is_refused() -> None:
    batch = RowBatch(rows(FIXED, (48, 64)), batched=True)
    with pytest.raises(InternalError, match="slot of input 'input'"):
        batch.read_into(np.empty((1, 3, 48, 65), np.float32))


def test_only_pictures_of_few_pixels_for_inputs_of_fixed_shape_wait() -> None:
    """A large one would make a full queue as large; of free shape, a batch's memory could not be reused."""
    side = int((MAX_DEFERRED_BYTES / 3) ** 0.5)
    assert Row(FIXED, picture(side, side)).may_wait
    assert not Row(FIXED, picture(side + 1, side + 1)).may_wait
    assert not Row(FREE, picture(10, 10)).may_wait
