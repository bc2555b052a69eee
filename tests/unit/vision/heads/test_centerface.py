"""CenterFace: maps decoded as a slow reference does, with and without landmarks, and outputs told apart."""

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

from naiad.core.errors import InternalError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.heads import Outputs

    from naiad.vision.heads import Head

WIDTH, HEIGHT = 96, 64
CHANNELS = {"537": 1, "538": 2, "539": 2, "540": 10}
DECLARED = [out(name, channels, HEIGHT // 4, WIDTH // 4) for name, channels in CHANNELS.items()]


def centerface(**changes: Any) -> Head:
    return head_for("centerface", DECLARED, (WIDTH, HEIGHT), **changes)


def made_up(batch: int) -> Outputs:
    """Faces of 8 to 30 pixels in some 5 % of the cells."""
    rng = np.random.default_rng(4)
    shape = (batch, HEIGHT // 4, WIDTH // 4)
    maps = {name: rng.uniform(0, 1, (batch, size, *shape[1:])) for name, size in CHANNELS.items()}
    maps["537"][:, 0] = np.where(rng.random(shape) < 0.05, rng.uniform(0.3, 1, shape), 0.01)
    maps["538"] = rng.uniform(np.log(2), np.log(7), maps["538"].shape)
    return {name: values.astype(np.float32) for name, values in maps.items()}


def candidates(outputs: Outputs, picture: int) -> Iterator[Face]:
    """The project's words, one cell at a time, but boxes are not cut off at the edge."""
    heat, scale, offset, points = (outputs[name][picture].astype(float) for name in CHANNELS)
    for y in range(heat.shape[1]):
        for x in range(heat.shape[2]):
            height, width = np.exp(scale[0, y, x]) * 4, np.exp(scale[1, y, x]) * 4
            left = (x + offset[1, y, x] + 0.5) * 4 - width / 2
            top = (y + offset[0, y, x] + 0.5) * 4 - height / 2
            landmarks = [
                (points[2 * k + 1, y, x] * width + left, points[2 * k, y, x] * height + top) for k in range(5)
            ]
            yield Face(heat[0, y, x], (left, top, left + width, top + height), landmarks)


def test_faces_are_those_of_the_slow_reference() -> None:
    outputs = made_up(2)
    transforms = [plain(WIDTH, HEIGHT), moved(WIDTH, HEIGHT)]
    found = centerface(nms_iou=0.3).decode(outputs, transforms)
    for picture, transform in enumerate(transforms):
        expected = slow_faces(candidates(outputs, picture), 0.5, 0.3, transform)
        assert len(expected) > 5
        assert_same(found[picture], expected)


def test_a_face_lies_where_its_cell_is() -> None:
    """Row 5, column 9 is centred at (38, 22); it is 16 high, 8 wide, and one cell further right."""
    outputs = {name: np.zeros((1, *d.dims), np.float32) for name, d in zip(CHANNELS, DECLARED, strict=True)}
    outputs["537"][0, 0, 5, 9] = 0.75
    outputs["538"][0, :, 5, 9] = np.log([4, 2])
    outputs["539"][0, 1, 5, 9] = 1
    outputs["540"][0, :2, 5, 9] = [0.5, 0.25]  # y, x of the first landmark
    (found,) = centerface().decode(outputs, [plain(WIDTH, HEIGHT)])
    np.testing.assert_allclose(found.boxes, [[38, 14, 46, 30]], rtol=1e-5)
    np.testing.assert_allclose(found.scores, [0.75])
    assert found.landmarks is not None
    np.testing.assert_allclose(found.landmarks[0, :2], [[40, 22], [38, 14]], rtol=1e-5)


def test_a_batch_is_its_pictures_one_by_one() -> None:
    transforms = [plain(WIDTH, HEIGHT), moved(WIDTH, HEIGHT), plain(WIDTH, HEIGHT)]
    assert_batch_is_its_singles(centerface(), made_up(3), transforms)


def test_threshold_and_max_faces_hold() -> None:
    assert_limits_hold(centerface(), made_up(1), plain(WIDTH, HEIGHT))


def test_numbers_that_are_not_finite_are_left_out() -> None:
    assert_not_finite_is_left_out(centerface(), made_up(1), plain(WIDTH, HEIGHT))


def test_no_face_is_found_where_there_is_none() -> None:
    outputs = made_up(2)
    outputs["537"][:] = 0.1
    found = centerface().decode(outputs, [plain(WIDTH, HEIGHT)] * 2)
    assert [len(faces) for faces in found] == [0, 0]


def test_the_files_without_landmarks_are_read_under_their_own_names() -> None:
    """There 537 is the offset, which elsewhere is the heatmap."""
    outputs = made_up(1)
    renamed = {"535": outputs["537"], "536": outputs["538"], "537": outputs["539"]}
    declared = [out(name, array.shape[1], -1, -1) for name, array in renamed.items()]
    head = head_for("centerface", declared, None)
    assert head.output_names == ("535", "536", "537")
    (found,) = head.decode(renamed, [plain(WIDTH, HEIGHT)])
    (with_landmarks,) = centerface().decode(outputs, [plain(WIDTH, HEIGHT)])
    assert found.landmarks is None
    np.testing.assert_array_equal(found.boxes, with_landmarks.boxes)


def test_scale_and_offset_are_told_apart_by_name_or_not_at_all() -> None:
    named = [out("hm", 1, 16, 24), out("scale", 2, 16, 24), out("x", 2, 16, 24), out("lm", 10, 16, 24)]
    head = head_for("centerface", named, (WIDTH, HEIGHT))
    assert head.output_names == ("hm", "scale", "x", "lm")
    alike = [named[0], out("a", 2, 16, 24), out("b", 2, 16, 24)]
    with pytest.raises(
        InvalidArgumentError, match=r"scale .* named scale or 538 or 536, .* which of a and b"
    ):
        head_for("centerface", alike, (WIDTH, HEIGHT))


def test_sides_and_maps_must_agree() -> None:
    with pytest.raises(InvalidArgumentError, match=r"multiples of 32, naiad\.input\.size is 100x64"):
        head_for("centerface", DECLARED, (100, 64))
    with pytest.raises(InvalidArgumentError, match=r"heatmap with dims \[1, 16, 16\]"):
        head_for("centerface", DECLARED, (64, 64))
    free = [out(name, channels, -1, -1) for name, channels in CHANNELS.items()]
    with pytest.raises(InternalError, match=r"\[1, 1, 16, 16\] was expected"):
        head_for("centerface", free, None).decode(made_up(1), [plain(64, 64)])
