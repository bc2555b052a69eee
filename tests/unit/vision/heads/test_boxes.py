"""Finished rows: every width of row, both units, classes apart, padding and what no row may be."""

from __future__ import annotations

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

from naiad.config.vision_config import Coordinates
from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.vision.transform import Transform

if TYPE_CHECKING:
    from support.heads import Outputs

    from naiad.vision.heads import Head

POINTS = {5: 0, 6: 0, 15: 5, 16: 5, 17: 6, 18: 6}
"""Numbers of a row and landmarks in it; even ones end with the class."""


def boxes(size: int = 6, **changes: Any) -> Head:
    return head_for("boxes", [out("output0", -1, size)], **changes)


def made_up(batch: int, size: int = 6) -> Outputs:
    rng = np.random.default_rng(8)
    rows = rng.uniform(0, 64, (batch, 60, size))
    rows[..., 2:4] = rows[..., :2] + rng.uniform(8, 24, (batch, 60, 2))
    rows[..., 4] = rng.uniform(0.2, 1, (batch, 60))
    if size % 2 == 0:
        rows[..., -1] = rng.integers(0, 3, (batch, 60))
    return {"output0": rows.astype(np.float32)}


@pytest.mark.parametrize("size", POINTS)
def test_rows_of_each_width_are_read_as_the_slow_reference_reads_them(size: int) -> None:
    outputs, transforms = made_up(2, size), [plain(), moved()]
    found = boxes(size).decode(outputs, transforms)
    for picture, transform in enumerate(transforms):
        faces = []
        for row in outputs["output0"][picture].tolist():
            points = [(row[5 + 2 * k], row[6 + 2 * k]) for k in range(POINTS[size])]
            label = None if size % 2 else int(row[-1])
            faces.append(Face(row[4], tuple(row[:4]), points or None, label))
        expected = slow_faces(faces, 0.5, 0.45, transform)
        assert 3 < len(expected) < 60
        assert_same(found[picture], expected)


def test_fractions_are_of_the_whole_input_border_included() -> None:
    transform = Transform(0.5, 0.5, 0, 10, 128, 88, 64, 64)
    row = np.array([[[0.25, 0.5, 0.75, 1.0, 0.9, 0.5, 0.25]]], np.float32)
    (found,) = boxes(7, coordinates=Coordinates.FRACTIONS).decode({"output0": row}, [transform])
    np.testing.assert_allclose(found.boxes, [[32, 44, 96, 108]])
    assert found.landmarks is not None
    np.testing.assert_allclose(found.landmarks, [[[64, 12]]])


def test_a_batch_is_its_pictures_one_by_one() -> None:
    assert_batch_is_its_singles(boxes(16), made_up(3, 16), [plain(), moved(), plain()])


def test_threshold_and_max_faces_hold() -> None:
    assert_limits_hold(boxes(5), made_up(1, 5), plain())


@pytest.mark.parametrize("size", POINTS)
def test_numbers_that_are_not_finite_are_left_out(size: int) -> None:
    assert_not_finite_is_left_out(boxes(size), made_up(1, size), plain())


def test_fractions_that_overflow_are_left_out() -> None:
    rows = np.full((1, 2, 15), 0.5, np.float32)
    rows[0, 0, 7] = 3e38
    (found,) = boxes(15, coordinates=Coordinates.FRACTIONS).decode({"output0": rows}, [plain()])
    assert len(found) == 1


def test_boxes_that_overflow_in_the_picture_alone_are_left_out() -> None:
    rows = np.array([[[0, 0, 3e38, 9, 0.9], [0, 0, 9, 9, 0.8]]], np.float32)
    (found,) = boxes(5).decode({"output0": rows}, [moved()])
    np.testing.assert_allclose(found.scores, [0.8])


def test_padding_is_no_face_even_without_a_threshold() -> None:
    rows = np.zeros((1, 5, 6), np.float32)
    rows[0, 0] = [1, 2, 3, 4, 0.1, 7]
    rows[0, 3:] = -1
    (found,) = boxes().decode({"output0": rows}, [plain()], score_threshold=0)
    np.testing.assert_allclose(found.boxes, [[1, 2, 3, 4]])
    assert found.labels is not None
    assert found.labels.tolist() == [7]
    assert len(boxes().decode({"output0": rows[:, :0]}, [plain()])[0]) == 0


def test_overlap_of_one_turns_suppression_off() -> None:
    outputs = made_up(1, 5)
    outputs["output0"][0, 1] = outputs["output0"][0, 0]
    (found,) = boxes(5, nms_iou=1.0).decode(outputs, [plain()], score_threshold=0)
    assert len(found) == 60


def test_rows_are_found_by_dims_or_name_and_refused_where_they_cannot_be() -> None:
    others = [out("features", 8, 20, 20, 3), out("detections", -1, 6), out("raw", 8400, 84)]
    assert head_for("boxes", others).output_names == ("detections",)
    with pytest.raises(InvalidArgumentError, match="cannot tell which of a and b it is"):
        head_for("boxes", [out("a", -1, 6), out("b", -1, 5)])
    with pytest.raises(InvalidArgumentError, match=r"at least 5 numbers .*'output0' has 4"):
        boxes(4)
    with pytest.raises(InternalError, match="rows of 3 numbers, at least 5"):
        boxes(-1).decode({"output0": np.zeros((1, 2, 3), np.float32)}, [plain()])
