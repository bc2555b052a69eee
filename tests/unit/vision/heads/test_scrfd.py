"""SCRFD: both published layouts, three and five strides, one and two anchors a cell, with and without landmarks."""

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

    from naiad.config.model_config import TensorConfig

THREE, FIVE = (8, 16, 32), (8, 16, 32, 64, 128)
WIDTH, HEIGHT = 128, 256
SIZES = {"score": 1, "bbox": 4, "kps": 10}


def declared(
    strides: tuple[int, ...], anchors: int, *, kps: bool = True, **options: Any
) -> list[TensorConfig]:
    """Outputs kind by kind as published; with `numbered` under names that say nothing, in another order."""
    outputs = []
    for kind, size in SIZES.items():
        if kind != "kps" or kps:
            rows = [anchors * (WIDTH // stride) * (HEIGHT // stride) for stride in strides]
            outputs += [out(f"{kind}_{s}", *((n, size))) for s, n in zip(strides, rows, strict=True)]
    if options.get("numbered"):
        order = np.random.default_rng(3).permutation(len(outputs))
        outputs = [out(str(440 + n), *outputs[i].dims) for n, i in enumerate(order)]
    return outputs


def made_up(outputs: list[TensorConfig], batch: int, seed: int = 0) -> Outputs:
    """Scores of which some 3 % reach a half, boxes of a few strides."""
    rng = np.random.default_rng(seed)
    arrays: Outputs = {}
    for output in outputs:
        values = rng.uniform(0.2, 2.5, (batch, *output.dims))
        if output.dims[-1] == 1:
            values = np.where(
                rng.random((batch, *output.dims)) < 0.03, rng.uniform(0.3, 1, values.shape), 0.01
            )
        if output.dims[-1] == 10:
            values -= 1
        arrays[output.name] = values.astype(np.float32)
    return arrays


def reference(
    outputs: Outputs, picture: int, strides: tuple[int, ...], anchors: int, *, kps: bool
) -> Iterator[Face]:
    """The source's words, one anchor at a time, for outputs with their published names."""
    for stride in strides:
        row = 0
        for y in range(0, HEIGHT, stride):
            for x in range(0, WIDTH, stride):
                for _ in range(anchors):
                    score = float(outputs[f"score_{stride}"][picture, row, 0])
                    left, top, right, bottom = outputs[f"bbox_{stride}"][picture, row].tolist()
                    points = None
                    if kps:
                        offsets = outputs[f"kps_{stride}"][picture, row].tolist()
                        points = [
                            (x + stride * offsets[2 * n], y + stride * offsets[2 * n + 1]) for n in range(5)
                        ]
                    box = (x - stride * left, y - stride * top, x + stride * right, y + stride * bottom)
                    yield Face(score, box, points)
                    row += 1


@pytest.mark.parametrize("kps", [True, False])
@pytest.mark.parametrize(("strides", "anchors"), [(THREE, 2), (THREE, 1), (FIVE, 1), (FIVE, 2)])
def test_faces_are_those_of_the_slow_reference(strides: tuple[int, ...], anchors: int, kps: bool) -> None:
    described = declared(strides, anchors, kps=kps)
    outputs = made_up(described, 2)
    head = head_for("scrfd", described, (WIDTH, HEIGHT))
    transforms = [plain(WIDTH, HEIGHT), moved(WIDTH, HEIGHT)]
    found = head.decode(outputs, transforms)
    for picture, transform in enumerate(transforms):
        candidates = reference(outputs, picture, strides, anchors, kps=kps)
        expected = slow_faces(candidates, 0.5, 0.45, transform)
        assert len(expected) > 3
        assert_same(found[picture], expected, atol=1e-3)


def test_outputs_of_any_name_in_any_order_are_told_apart_by_their_dims() -> None:
    named, numbered = declared(THREE, 2), declared(THREE, 2, numbered=True)
    values = made_up(named, 1)
    by_dims = {output.dims: values[output.name] for output in named}
    outputs = {output.name: by_dims[output.dims] for output in numbered}
    expected = head_for("scrfd", named, (WIDTH, HEIGHT)).decode(values, [moved(WIDTH, HEIGHT)])[0]
    found = head_for("scrfd", numbered, (WIDTH, HEIGHT)).decode(outputs, [moved(WIDTH, HEIGHT)])[0]
    assert len(expected) > 3
    assert_same(found, expected)


def test_an_input_of_free_size_is_read_at_the_size_that_each_picture_has() -> None:
    """As published for free sizes: rows that hold for one size alone are declared, and not held against it."""
    free = [out(o.name, *o.dims) for o in declared(THREE, 2, numbered=True)]
    head = head_for("scrfd", free, None)
    assert head.input_multiple == 32
    small = {
        o.name: np.zeros((1, o.dims[0] // 4, o.dims[1]), np.float32)
        for o in declared(THREE, 2, numbered=True)
    }
    assert len(head.decode(small, [plain(WIDTH // 2, HEIGHT // 2)])[0]) == 0
    with pytest.raises(
        InternalError, match=r"\[256, 64, 16\] anchors, an input of 128x256 has \[512, 128, 32\]"
    ):
        head.decode(small, [plain(WIDTH, HEIGHT)])


def test_a_batch_is_its_singles_and_the_batch_dimension_may_be_missing() -> None:
    described = declared(THREE, 2)
    head = head_for("scrfd", described, (WIDTH, HEIGHT))
    assert_batch_is_its_singles(head, made_up(described, 4), [plain(WIDTH, HEIGHT), moved(WIDTH, HEIGHT)] * 2)


def test_threshold_and_count_and_numbers_that_are_none() -> None:
    described = declared(FIVE, 1)
    head, outputs = head_for("scrfd", described, (WIDTH, HEIGHT)), made_up(described, 1)
    assert_limits_hold(head, outputs, moved(WIDTH, HEIGHT))
    assert_not_finite_is_left_out(head, outputs, plain(WIDTH, HEIGHT))


@pytest.mark.parametrize(
    "outputs",
    [
        declared(THREE, 2)[:-1],
        declared(THREE, 2)[1:],
        declared(THREE, 2) + [out("450", 7, 1)] * 3 + declared(FIVE, 1)[-2:],
        declared((8, 16, 32, 64), 2, numbered=True),
        [out(str(n), -1, -1) for n in range(9)],
        declared(THREE, 3),
        [out(o.name, *o.dims[:-1], 3) for o in declared(THREE, 2)],
    ],
    ids=[
        "a kps missing",
        "a score missing",
        "kps of two kinds",
        "four strides",
        "open dims",
        "three anchors",
        "of 3",
    ],
)
def test_outputs_that_are_not_clearly_the_familys_are_refused(outputs: list[TensorConfig]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"needs an output of scores \[K, 1\].*, the model has '"):
        head_for("scrfd", outputs, (WIDTH, HEIGHT))


def test_sides_that_the_largest_stride_does_not_divide_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"multiples of 128, naiad\.input\.size is 128x192"):
        head_for("scrfd", declared(FIVE, 1), (128, 192))


def test_boxes_of_other_anchors_than_the_scores_are_the_models_fault() -> None:
    described = declared(THREE, 2)
    outputs = made_up(described, 1)
    outputs["bbox_16"] = outputs["bbox_16"][:, :-1]
    with pytest.raises(InternalError, match="of 255 anchors, scores of 256"):
        head_for("scrfd", described, (WIDTH, HEIGHT)).decode(outputs, [plain(WIDTH, HEIGHT)])
