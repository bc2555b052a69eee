"""YOLOv8-face: raw maps with distances spread over bins, and columns that the graph decoded."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

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

    import numpy.typing as npt
    from support.heads import Outputs

    from naiad.config.model_config import TensorConfig

WIDTH, HEIGHT = 96, 160
STRIDES = (8, 16, 32)
COUNT = 12 * 20 + 6 * 10 + 3 * 5
MAPS = [
    out(name, 80, HEIGHT // s, WIDTH // s) for name, s in zip(("output0", "884", "892"), STRIDES, strict=True)
]
DECODED = [out("output0", 20, COUNT)]


def made_up(batch: int, seed: int = 0) -> Outputs:
    rng = np.random.default_rng(seed)
    outputs: Outputs = {}
    for described in MAPS:
        values = rng.normal(0, 2, (batch, *described.dims)).astype(np.float32)
        shape = (batch, *described.dims[1:])
        values[:, 64] = np.where(rng.random(shape) < 0.1, rng.uniform(-1, 5, shape), -6)
        outputs[described.name] = values
    return outputs


def slow_columns(outputs: Outputs, picture: int) -> Iterator[list[float]]:
    """One cell at a time, as a pose export would hold it: centre, size, score, landmarks with visibilities."""
    for described, stride in zip(MAPS, STRIDES, strict=True):
        for y in range(HEIGHT // stride):
            for x in range(WIDTH // stride):
                raw = outputs[described.name][picture, :, y, x].tolist()
                sides = []
                for side in range(4):
                    weights = [math.exp(value) for value in raw[16 * side : 16 * side + 16]]
                    mean = sum(n * weight for n, weight in enumerate(weights)) / sum(weights)
                    sides.append(mean * stride)
                middle = ((x + 0.5) * stride, (y + 0.5) * stride)
                x1, y1, x2, y2 = (
                    middle[0] - sides[0], middle[1] - sides[1], middle[0] + sides[2], middle[1] + sides[3]
                )  # fmt: skip
                points: list[float] = []
                for n in range(5):
                    px, py, seen = raw[65 + 3 * n : 68 + 3 * n]
                    points += [(2 * px + x) * stride, (2 * py + y) * stride, 1 / (1 + math.exp(-seen))]
                score = 1 / (1 + math.exp(-raw[64]))
                yield [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, score, *points]


def face_of(column: list[float]) -> Face:
    cx, cy, w, h, score, *points = column
    box = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    return Face(score, box, list(zip(points[::3], points[1::3], strict=True)))


def decoded(outputs: Outputs, batch: int) -> npt.NDArray[np.float32]:
    columns = np.array([list(slow_columns(outputs, picture)) for picture in range(batch)], np.float32)
    return np.ascontiguousarray(columns.transpose(0, 2, 1))


def test_faces_of_raw_maps_are_those_of_the_slow_reference() -> None:
    outputs, transforms = made_up(2), [plain(WIDTH, HEIGHT), moved(WIDTH, HEIGHT)]
    for picture, found in enumerate(
        head_for("yolov8_face", MAPS, (WIDTH, HEIGHT)).decode(outputs, transforms)
    ):
        faces = [face_of(column) for column in slow_columns(outputs, picture)]
        expected = slow_faces(faces, 0.5, 0.45, transforms[picture])
        assert len(expected) > 3
        assert_same(found, expected, atol=2e-3)


@pytest.mark.parametrize("visibility", [True, False])
def test_columns_that_the_graph_decoded_give_the_same_faces(visibility: bool) -> None:
    outputs, transforms = made_up(2), [plain(WIDTH, HEIGHT), moved(WIDTH, HEIGHT)]
    columns = decoded(outputs, 2)
    if not visibility:
        columns = np.delete(columns, [7, 10, 13, 16, 19], axis=1)
    described = [out("output0", columns.shape[1], COUNT)]
    expected = head_for("yolov8_face", MAPS, (WIDTH, HEIGHT)).decode(outputs, transforms)
    head = head_for("yolov8_face", described, (WIDTH, HEIGHT))
    for left, right in zip(head.decode({"output0": columns}, transforms), expected, strict=True):
        assert len(left) > 3
        assert_same(left, right, atol=2e-3)


def test_maps_are_told_apart_by_their_size_not_by_their_order() -> None:
    outputs, transforms = made_up(1), [plain(WIDTH, HEIGHT)]
    expected = head_for("yolov8_face", MAPS, (WIDTH, HEIGHT)).decode(outputs, transforms)[0]
    head = head_for("yolov8_face", MAPS[::-1], (WIDTH, HEIGHT))
    assert_same(head.decode(outputs, transforms)[0], expected)


def test_maps_of_twenty_rows_are_not_taken_for_decoded_columns() -> None:
    """A raw map of 20 x 20 cells ends in the same two dims as 20 decoded numbers of 20 cells."""
    maps = [out(f"map{side}", 80, side, side) for side in (80, 40, 20)]
    assert set(head_for("yolov8_face", maps, (640, 640)).output_names) == {"map80", "map40", "map20"}


def test_a_batch_is_its_singles_and_the_batch_dimension_may_be_missing() -> None:
    transforms = [plain(WIDTH, HEIGHT), moved(WIDTH, HEIGHT)]
    assert_batch_is_its_singles(head_for("yolov8_face", MAPS, (WIDTH, HEIGHT)), made_up(2), transforms)
    columns: Outputs = {"output0": decoded(made_up(2), 2)}
    assert_batch_is_its_singles(head_for("yolov8_face", DECODED, (WIDTH, HEIGHT)), columns, transforms)


def test_threshold_and_count_and_numbers_that_are_none() -> None:
    for described, outputs in ((MAPS, made_up(1)), (DECODED, {"output0": decoded(made_up(1), 1)})):
        head = head_for("yolov8_face", described, (WIDTH, HEIGHT))
        assert_limits_hold(head, outputs, moved(WIDTH, HEIGHT))
        assert_not_finite_is_left_out(head, outputs, plain(WIDTH, HEIGHT))


def test_a_logit_a_trifle_below_the_threshold_is_below_it() -> None:
    """Raw maps are sifted by their logits with a margin: what the margin lets through is held against the score."""
    outputs = made_up(1)
    for array in outputs.values():
        array[:, 64] = -6
    outputs["892"][0, 64, 1, 1] = -5e-4
    head = head_for("yolov8_face", MAPS, (WIDTH, HEIGHT))
    assert len(head.decode(outputs, [plain(WIDTH, HEIGHT)])[0]) == 0
    outputs["892"][0, 64, 1, 1] = 0
    assert len(head.decode(outputs, [plain(WIDTH, HEIGHT)])[0]) == 1


def test_maps_of_another_input_size_are_the_models_fault() -> None:
    head = head_for("yolov8_face", [out(o.name, 80, -1, -1) for o in MAPS], None)
    with pytest.raises(InternalError, match="a map of 12x20 cells, an input of 160x96 has 20x12 of stride 8"):
        head.decode(made_up(1), [plain(HEIGHT, WIDTH)])


@pytest.mark.parametrize(
    "outputs",
    [MAPS[:2], [*DECODED, out("twin", 15, COUNT)], [out("output0", 84, COUNT)], [out("output0", -1, -1)]],
    ids=["two strides", "two of columns", "plain YOLO", "open dims"],
)
def test_outputs_that_are_not_clearly_the_familys_are_refused(outputs: list[TensorConfig]) -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"needs an output of decoded columns \[20, K\].*, the model has '"
    ):
        head_for("yolov8_face", outputs, (WIDTH, HEIGHT))


def test_sides_that_the_largest_stride_does_not_divide_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="multiples of 32"):
        head_for("yolov8_face", DECODED, (WIDTH, 40))
