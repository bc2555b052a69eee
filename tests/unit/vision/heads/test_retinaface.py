"""RetinaFace: priors, variances, and outputs told apart by their last dimension."""

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
from naiad.vision.heads.retinaface import priors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.heads import Outputs

    from naiad.config.model_config import TensorConfig

WIDTH, HEIGHT = 100, 72
"""Sides that no stride divides: the model's maps are rounded up."""
ROWS = 2 * (13 * 9 + 7 * 5 + 4 * 3)
DECLARED = [out("loc", ROWS, 4), out("conf", ROWS, 2), out("landms", ROWS, 10)]


def made_up(batch: int, seed: int = 0) -> Outputs:
    rng = np.random.default_rng(seed)
    face = np.where(rng.random((batch, ROWS)) < 0.1, rng.uniform(0.3, 1, (batch, ROWS)), 0.01)
    return {
        "loc": rng.normal(0, 2, (batch, ROWS, 4)).astype(np.float32),
        "conf": np.stack([1 - face, face], axis=-1).astype(np.float32),
        "landms": rng.normal(0, 3, (batch, ROWS, 10)).astype(np.float32),
    }


def reference(outputs: Outputs, picture: int) -> Iterator[Face]:
    """The source's words in its own units (fractions of the input), one prior at a time."""
    row = 0
    for stride, sides in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512))):
        for y in range(math.ceil(HEIGHT / stride)):
            for x in range(math.ceil(WIDTH / stride)):
                for side in sides:
                    cx, cy = (x + 0.5) * stride / WIDTH, (y + 0.5) * stride / HEIGHT
                    pw, ph = side / WIDTH, side / HEIGHT
                    dx, dy, dw, dh = outputs["loc"][picture, row].tolist()
                    mx, my = cx + dx * 0.1 * pw, cy + dy * 0.1 * ph
                    w, h = pw * math.exp(dw * 0.2), ph * math.exp(dh * 0.2)
                    box = (
                        (mx - w / 2) * WIDTH, (my - h / 2) * HEIGHT, (mx + w / 2) * WIDTH, (my + h / 2) * HEIGHT
                    )  # fmt: skip
                    raw = outputs["landms"][picture, row].tolist()
                    points = [
                        ((cx + raw[2 * n] * 0.1 * pw) * WIDTH, (cy + raw[2 * n + 1] * 0.1 * ph) * HEIGHT)
                        for n in range(5)
                    ]
                    yield Face(float(outputs["conf"][picture, row, 1]), box, points)
                    row += 1


def test_priors_by_hand() -> None:
    known = priors(32, 16)
    assert known.shape == (2 * (8 + 2 + 1), 3)
    np.testing.assert_array_equal(known[:4], [[4, 4, 16], [4, 4, 32], [12, 4, 16], [12, 4, 32]])
    np.testing.assert_array_equal(known[-2:], [[16, 16, 256], [16, 16, 512]])
    assert len(priors(640, 640)) == 16800


def test_faces_are_those_of_the_slow_reference() -> None:
    outputs = made_up(2)
    transforms = [plain(WIDTH, HEIGHT), moved(WIDTH, HEIGHT)]
    head = head_for("retinaface", DECLARED, (WIDTH, HEIGHT))
    for picture, found in enumerate(head.decode(outputs, transforms)):
        expected = slow_faces(reference(outputs, picture), 0.5, 0.45, transforms[picture])
        assert len(expected) > 3
        assert_same(found, expected, atol=2e-3)


def test_names_and_order_of_the_outputs_say_nothing() -> None:
    shuffled = [out("a", ROWS, 10), out("b", ROWS, 4), out("other", 7), out("c", ROWS, 2)]
    values = made_up(1)
    renamed = {"a": values["landms"], "b": values["loc"], "c": values["conf"]}
    expected = head_for("retinaface", DECLARED, (WIDTH, HEIGHT)).decode(values, [plain(WIDTH, HEIGHT)])[0]
    head = head_for("retinaface", shuffled, (WIDTH, HEIGHT))
    assert set(head.output_names) == set(renamed)
    assert_same(head.decode(renamed, [plain(WIDTH, HEIGHT)])[0], expected)


def test_an_input_of_free_size_is_read_at_the_size_that_each_picture_has() -> None:
    head = head_for("retinaface", [out(o.name, -1, o.dims[1]) for o in DECLARED], None)
    assert head.input_multiple == 1
    assert len(head.decode(made_up(1), [plain(WIDTH, HEIGHT)])[0]) > 0
    with pytest.raises(InternalError, match="gave 328 rows, an input of 640x640 has 16800 priors"):
        head.decode(made_up(1), [plain(640, 640)])


def test_a_batch_is_its_singles_and_the_batch_dimension_may_be_missing() -> None:
    head = head_for("retinaface", DECLARED, (WIDTH, HEIGHT))
    assert_batch_is_its_singles(head, made_up(4), [plain(WIDTH, HEIGHT), moved(WIDTH, HEIGHT)] * 2)


def test_threshold_and_count_and_numbers_that_are_none() -> None:
    head = head_for("retinaface", DECLARED, (WIDTH, HEIGHT))
    assert_limits_hold(head, made_up(1), moved(WIDTH, HEIGHT))
    assert_not_finite_is_left_out(head, made_up(1), plain(WIDTH, HEIGHT))


@pytest.mark.parametrize(
    "outputs",
    [
        DECLARED[:2],
        [*DECLARED, out("more", ROWS, 4)],
        [out("all", ROWS, 16)],
        [out(o.name, ROWS - 1, o.dims[1]) for o in DECLARED],
        [out(o.name, ROWS, -1) for o in DECLARED],
    ],
    ids=["no landmarks", "two of boxes", "one for all", "other rows", "open last dims"],
)
def test_outputs_that_are_not_clearly_the_familys_are_refused(outputs: list[TensorConfig]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"needs an output of boxes \[K, 4\].*, the model has '"):
        head_for("retinaface", outputs, (WIDTH, HEIGHT))
