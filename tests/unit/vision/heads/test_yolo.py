"""Plain YOLO: both export layouts, classes suppressed each by itself, and what fits neither refused."""

from __future__ import annotations

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
CELLS = 12 * 8 + 6 * 4 + 3 * 2
SIZE = (WIDTH, HEIGHT)


def made_up(batch: int, classes: int, rows: bool, seed: int = 0) -> npt.NDArray[np.float32]:
    """Boxes of the input's scale in either layout, some of them with a class above a half."""
    rng = np.random.default_rng(seed)
    count = CELLS * 3 if rows else CELLS
    centres, sizes = rng.uniform(0, 90, (batch, count, 2)), rng.uniform(5, 40, (batch, count, 2))
    scores = rng.uniform(0, 0.2, (batch, count, classes))
    likely = rng.random((batch, count)) < 0.3
    scores[likely, rng.integers(0, classes, likely.sum())] = rng.uniform(0.3, 1, likely.sum())
    parts = [centres, sizes, scores]
    if rows:
        parts.insert(2, rng.uniform(0.7, 1, (batch, count, 1)))
    array = np.concatenate(parts, axis=-1).astype(np.float32)
    return array if rows else np.ascontiguousarray(array.transpose(0, 2, 1))


def declared(classes: int, rows: bool) -> list[TensorConfig]:
    return [out("output0", 3 * CELLS, 5 + classes) if rows else out("output0", 4 + classes, CELLS)]


def reference(picture: npt.NDArray[np.float32], rows: bool) -> Iterator[Face]:
    """One box at a time, from one picture's output."""
    for numbers in (picture if rows else picture.T).tolist():
        cx, cy, w, h, *rest = numbers
        scores = [rest[0] * score for score in rest[1:]] if rows else rest
        best = max(range(len(scores)), key=lambda n: scores[n])
        yield Face(scores[best], (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), label=best)


@pytest.mark.parametrize("rows", [True, False], ids=["v5", "v8"])
@pytest.mark.parametrize("classes", [1, 3, 80])
def test_what_is_found_is_what_the_slow_reference_finds(classes: int, rows: bool) -> None:
    array, transforms = made_up(2, classes, rows), [plain(*SIZE), moved(*SIZE)]
    head = head_for("yolo", declared(classes, rows), SIZE)
    assert head.output_names == ("output0",)
    for picture, found in enumerate(head.decode({"output0": array}, transforms)):
        expected = slow_faces(reference(array[picture], rows), 0.5, 0.45, transforms[picture])
        assert len(expected) > 3
        assert_same(found, expected, atol=1e-3)
        assert found.labels is not None
        assert found.labels.dtype == np.int32
        assert found.landmarks is None


def test_only_boxes_of_one_class_suppress_each_other() -> None:
    array = np.zeros((1, 6, CELLS), np.float32)
    array[0, :4, :3] = np.array([[30, 30, 20, 20]] * 3).T
    array[0, 4, 0], array[0, 5, 1], array[0, 5, 2] = 0.8, 0.9, 0.7
    (found,) = head_for("yolo", declared(2, rows=False), SIZE).decode({"output0": array}, [plain(*SIZE)])
    np.testing.assert_allclose(found.scores, [0.9, 0.8])
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0]
    np.testing.assert_allclose(found.boxes, [[20, 20, 40, 40]] * 2)


def test_objectness_counts_in_the_layout_that_has_it() -> None:
    array = np.zeros((1, 3 * CELLS, 6), np.float32)
    array[0, :2] = [[30, 30, 20, 20, 0.9, 0.8], [70, 30, 20, 20, 0.9, 0.5]]
    head = head_for("yolo", declared(1, rows=True), SIZE)
    (found,) = head.decode({"output0": array}, [plain(*SIZE)])
    np.testing.assert_allclose(found.scores, [0.72], rtol=1e-6)


@pytest.mark.parametrize("rows", [True, False], ids=["v5", "v8"])
def test_batches_limits_and_numbers_that_are_none(rows: bool) -> None:
    head = head_for("yolo", declared(3, rows), SIZE)
    outputs: Outputs = {"output0": made_up(2, 3, rows)}
    assert_batch_is_its_singles(head, outputs, [plain(*SIZE), moved(*SIZE)])
    one = {name: array[:1] for name, array in outputs.items()}
    assert_limits_hold(head, one, moved(*SIZE))
    assert_not_finite_is_left_out(head, one, plain(*SIZE))


@pytest.mark.parametrize(
    ("dims", "size"),
    [
        ((84, 8400), (640, 640)),
        ((1, 84, 8400), (640, 640)),
        ((5, 8400), (640, 640)),
        ((25200, 85), (640, 640)),
        ((25200, 6), (640, 640)),
        ((84, 84), (64, 64)),  # as many classes as cells: three a cell would be 252
        ((102000, 85), (1280, 1280)),  # P6: four strides
        ((84, 34000), (640, 640)),  # P2: from stride 4 on
    ],
)
def test_published_dims_are_known(dims: tuple[int, ...], size: tuple[int, int]) -> None:
    assert head_for("yolo", [out("output0", *dims)], size).output_names == ("output0",)


@pytest.mark.parametrize("rows", [True, False], ids=["v5", "v8"])
def test_an_input_of_free_size_is_read_at_the_size_that_each_picture_has(rows: bool) -> None:
    head = head_for("yolo", [out("output0", -1, 8) if rows else out("output0", 7, -1)], None)
    outputs = {"output0": made_up(1, 3, rows)}
    assert len(head.decode(outputs, [plain(*SIZE)])[0]) > 3
    count = CELLS * 3 if rows else CELLS
    with pytest.raises(InternalError, match=f"gave {count} boxes, an input of 64x64 has"):
        head.decode(outputs, [plain(64, 64)])


@pytest.mark.parametrize(
    "outputs",
    [
        [out("output0", 300, 6)],
        [out("output0", 8400, 84)],
        [out("output0", 8400, 85)],
        [out("output0", 4, 8400)],
        [out("output0", 25200, 5)],
        [out("output0", -1, -1)],
        [out("output0", 84, 8400), out("output1", 25200, 85)],
        [out("output0", 84, 80, 80)],
    ],
    ids=["end to end", "transposed", "v6 or X", "no class", "no class in rows", "open", "two", "maps"],
)
def test_outputs_that_fit_neither_layout_are_refused(outputs: list[TensorConfig]) -> None:
    with pytest.raises(
        InvalidArgumentError,
        match=r"needs an output of columns .* or of rows .* for an input of 640x640, the model has '",
    ):
        head_for("yolo", outputs, (640, 640))


def test_sides_that_the_largest_stride_does_not_divide_are_refused() -> None:
    dims = (6, 12 * 5 + 6 * 3 + 3 * 2)
    with pytest.raises(InvalidArgumentError, match="multiples of 32"):
        head_for("yolo", [out("output0", *dims)], (96, 40))
