"""YOLOv5-face: raw maps of three anchors a cell, and rows that the graph decoded."""

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

WIDTH, HEIGHT = 96, 64
STRIDES = (8, 16, 32)
MAPS = [out(f"stride_{s}", 3, HEIGHT // s, WIDTH // s, 16) for s in STRIDES]
ROWS = 3 * (12 * 8 + 6 * 4 + 3 * 2)
DECODED = [out("output", ROWS, 16)]
ANCHORS = {
    8: [(4, 5), (8, 10), (13, 16)],
    16: [(23, 29), (43, 55), (73, 105)],
    32: [(146, 217), (231, 300), (335, 433)],
}


def made_up(batch: int, seed: int = 0) -> Outputs:
    rng = np.random.default_rng(seed)
    outputs: Outputs = {}
    for described in MAPS:
        values = rng.normal(0, 1, (batch, *described.dims)).astype(np.float32)
        values[..., 4] = np.where(
            rng.random(values.shape[:-1]) < 0.1, rng.uniform(0, 5, values.shape[:-1]), -6
        )
        values[..., 15] += 2
        outputs[described.name] = values
    return outputs


def logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def slow_rows(outputs: Outputs, picture: int) -> Iterator[list[float]]:
    """The source's own decoding, one anchor at a time: what an export with decoded rows holds."""
    for stride in STRIDES:
        for n, (wide, high) in enumerate(ANCHORS[stride]):
            for y in range(HEIGHT // stride):
                for x in range(WIDTH // stride):
                    raw = outputs[f"stride_{stride}"][picture, n, y, x].tolist()
                    centre = [
                        (2 * logistic(raw[0]) - 0.5 + x) * stride,
                        (2 * logistic(raw[1]) - 0.5 + y) * stride,
                    ]
                    size = [(2 * logistic(raw[2])) ** 2 * wide, (2 * logistic(raw[3])) ** 2 * high]
                    points = []
                    for point in range(5):
                        points.append(raw[5 + 2 * point] * wide + x * stride)
                        points.append(raw[6 + 2 * point] * high + y * stride)
                    yield [*centre, *size, logistic(raw[4]), *points, logistic(raw[15])]


def face_of(row: list[float]) -> Face:
    cx, cy, w, h, sure, *points, face = row
    box = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
    return Face(sure * face, box, list(zip(points[::2], points[1::2], strict=True)))


def decoded(outputs: Outputs, batch: int) -> npt.NDArray[np.float32]:
    return np.array([list(slow_rows(outputs, picture)) for picture in range(batch)], np.float32)


def test_faces_of_raw_maps_are_those_of_the_slow_reference() -> None:
    outputs, transforms = made_up(2), [plain(WIDTH, HEIGHT), moved(WIDTH, HEIGHT)]
    for picture, found in enumerate(
        head_for("yolov5_face", MAPS, (WIDTH, HEIGHT)).decode(outputs, transforms)
    ):
        faces = [face_of(row) for row in slow_rows(outputs, picture)]
        expected = slow_faces(faces, 0.5, 0.45, transforms[picture])
        assert len(expected) > 3
        assert_same(found, expected, atol=2e-3)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9])
def test_rows_that_the_graph_decoded_give_the_same_faces(threshold: float) -> None:
    outputs, transforms = made_up(2), [plain(WIDTH, HEIGHT), moved(WIDTH, HEIGHT)]
    maps, rows = (
        head_for("yolov5_face", MAPS, (WIDTH, HEIGHT)),
        head_for("yolov5_face", DECODED, (WIDTH, HEIGHT)),
    )
    expected = maps.decode(outputs, transforms, score_threshold=threshold)
    found = rows.decode({"output": decoded(outputs, 2)}, transforms, score_threshold=threshold)
    for left, right in zip(found, expected, strict=True):
        assert len(left) > 0
        assert_same(left, right, atol=2e-3)


def test_decoded_rows_are_read_where_an_export_has_both() -> None:
    head = head_for("yolov5_face", [*MAPS, *DECODED], (WIDTH, HEIGHT))
    assert head.output_names == ("output",)


def test_a_batch_is_its_singles_and_the_batch_dimension_may_be_missing() -> None:
    transforms = [plain(WIDTH, HEIGHT), moved(WIDTH, HEIGHT)]
    assert_batch_is_its_singles(head_for("yolov5_face", MAPS, (WIDTH, HEIGHT)), made_up(2), transforms)
    rows: Outputs = {"output": decoded(made_up(2), 2)}
    assert_batch_is_its_singles(head_for("yolov5_face", DECODED, (WIDTH, HEIGHT)), rows, transforms)


def test_threshold_and_count_and_numbers_that_are_none() -> None:
    for described, outputs in ((MAPS, made_up(1)), (DECODED, {"output": decoded(made_up(1), 1)})):
        head = head_for("yolov5_face", described, (WIDTH, HEIGHT))
        assert_limits_hold(head, outputs, moved(WIDTH, HEIGHT))
        assert_not_finite_is_left_out(head, outputs, plain(WIDTH, HEIGHT))


def test_maps_of_another_input_size_are_the_models_fault() -> None:
    head = head_for("yolov5_face", [out(o.name, 3, -1, -1, 16) for o in MAPS], None)
    with pytest.raises(InternalError, match="a map of 12x8 cells, an input of 64x96 has 8x12 of stride 8"):
        head.decode(made_up(1), [plain(HEIGHT, WIDTH)])


@pytest.mark.parametrize(
    "outputs",
    [MAPS[:2], [*DECODED, out("twin", ROWS, 16)], [out("output", ROWS, 85)], [out("output", -1, -1)]],
    ids=["two strides", "two of rows", "plain YOLO", "open dims"],
)
def test_outputs_that_are_not_clearly_the_familys_are_refused(outputs: list[TensorConfig]) -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"needs an output of decoded rows \[K, 16\].*, the model has '"
    ):
        head_for("yolov5_face", outputs, (WIDTH, HEIGHT))


def test_sides_that_the_largest_stride_does_not_divide_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="multiples of 32"):
        head_for("yolov5_face", DECODED, (WIDTH, 40))
