"""MogFace: anchors of six strides, decoded as a slow reference does, with one column of scores or two."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.heads import (
    Face,
    assert_batch_is_its_singles,
    assert_limits_hold,
    assert_not_finite_is_left_out,
    assert_same,
    head_for,
    moved,
    out,
    plain,
    slow_faces,
)

from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.vision.heads.mogface import anchors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.heads import Outputs

    from naiad.vision.heads import Head

WIDTH, HEIGHT = 100, 60
"""No stride but the first divides them: cells reach over the edge."""
CELLS = 25 * 15 + 13 * 8 + 7 * 4 + 4 * 2 + 2 * 1 + 1 * 1
DECLARED = [out("conf", CELLS, 1), out("loc", CELLS, 4)]


def mogface(**changes: Any) -> Head:
    return head_for("mogface", DECLARED, (WIDTH, HEIGHT), **changes)


def made_up(batch: int) -> Outputs:
    rng = np.random.default_rng(6)
    scores = np.where(rng.random((batch, CELLS, 1)) < 0.05, rng.uniform(0.3, 1, (batch, CELLS, 1)), 0.01)
    boxes = rng.uniform(-0.6, 0.6, (batch, CELLS, 4))
    return {"conf": scores.astype(np.float32), "loc": boxes.astype(np.float32)}


def candidates(outputs: Outputs, picture: int) -> Iterator[Face]:
    """The project's words, one anchor at a time."""
    row = 0
    for stride, size in zip((4, 8, 16, 32, 64, 128), (16, 32, 64, 128, 256, 512), strict=True):
        for y in range(math.ceil(HEIGHT / stride)):
            for x in range(math.ceil(WIDTH / stride)):
                side = size * 0.68
                dx, dy, dw, dh = outputs["loc"][picture, row].astype(float)
                width, height = side * math.exp(dw), side * math.exp(dh)
                left = (x + 0.5) * stride + dx * side - (width - 1) / 2
                top = (y + 0.5) * stride + dy * side - (height - 1) / 2
                score = float(outputs["conf"][picture, row, 0])
                yield Face(score, (left, top, left + width - 1, top + height - 1))
                row += 1


def test_faces_are_those_of_the_slow_reference() -> None:
    outputs = made_up(2)
    transforms = [plain(WIDTH, HEIGHT), moved(WIDTH, HEIGHT)]
    found = mogface(nms_iou=0.4).decode(outputs, transforms)
    for picture, transform in enumerate(transforms):
        expected = slow_faces(candidates(outputs, picture), 0.5, 0.4, transform)
        assert len(expected) > 5
        assert_same(found[picture], expected, atol=1e-3)


def test_anchors_go_row_by_row_stride_by_stride() -> None:
    cells = anchors(WIDTH, HEIGHT)
    assert cells.shape == (CELLS, 3)
    expected = [[2, 2, 10.88], [6, 2, 10.88], [2, 6, 10.88], [4, 4, 21.76], [64, 64, 348.16]]
    np.testing.assert_allclose(cells[[0, 1, 25, 375, -1]], expected, rtol=1e-6)


def test_a_batch_is_its_pictures_one_by_one() -> None:
    transforms = [plain(WIDTH, HEIGHT), moved(WIDTH, HEIGHT), plain(WIDTH, HEIGHT)]
    assert_batch_is_its_singles(mogface(), made_up(3), transforms)


def test_threshold_and_max_faces_hold() -> None:
    assert_limits_hold(mogface(), made_up(1), plain(WIDTH, HEIGHT))


def test_numbers_that_are_not_finite_are_left_out() -> None:
    assert_not_finite_is_left_out(mogface(), made_up(1), plain(WIDTH, HEIGHT))


def test_no_face_is_found_where_there_is_none() -> None:
    outputs = made_up(2)
    outputs["conf"][:] = 0.1
    assert [len(faces) for faces in mogface().decode(outputs, [plain(WIDTH, HEIGHT)] * 2)] == [0, 0]


def test_a_column_for_the_background_is_passed_over() -> None:
    outputs = made_up(1)
    both = {"conf": np.concatenate([1 - outputs["conf"], outputs["conf"]], axis=2), "loc": outputs["loc"]}
    head = head_for("mogface", [out("conf", CELLS, 2), DECLARED[1]], (WIDTH, HEIGHT))
    (found,) = head.decode(both, [plain(WIDTH, HEIGHT)])
    (expected,) = mogface().decode(outputs, [plain(WIDTH, HEIGHT)])
    assert_same(found, expected)


def test_other_numbers_of_cells_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=rf"scores with dims \[{CELLS + 1 * 15}, 1\]"):
        head_for("mogface", DECLARED, (WIDTH + 4, HEIGHT))
    head = head_for("mogface", [out("conf", -1, 1), out("loc", -1, 4)], None)
    with pytest.raises(InternalError, match=rf"gave {CELLS} cells, an input of 64x64 has 342"):
        head.decode(made_up(1), [plain(64, 64)])
