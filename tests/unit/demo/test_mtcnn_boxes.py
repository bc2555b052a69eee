"""Suppression is the package's: not greedy, image by image, with a sentinel behind the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from naiad.demo.graph import GraphBuilder
from naiad.demo.mtcnn_boxes import Levels, Ranking, Rows, rank, suppress, suppress_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from naiad.demo.graph import Output

    Array = npt.NDArray[Any]
    Prepare = Callable[..., Any]


def suppressed(prepare: Prepare, boxes: Array, scores: Array, threshold: float, **options: Any) -> Array:
    """(image, source) of the rows left, without the sentinel."""
    graph = GraphBuilder()
    box = graph.input("boxes", np.float32, ["N", "K", 4])
    score = graph.input("scores", np.float32, ["N", "K"])
    inputs = {"boxes": boxes.astype(np.float32), "scores": scores.astype(np.float32)}
    if "level" in options:
        inputs["level"] = options.pop("level")
        level = graph.input("level", np.int64, ["N", "K"])
        options["levels"] = Levels(level, graph.constant(np.array([1e4], np.float32)))
    counter = graph.arange(graph.size(box, 1)) + (score * 0.0).cast(np.int64)
    rows, source = suppress(graph, Ranking(score, counter), box, threshold, **options)
    outputs: dict[str, Output] = {
        name: (value, np.int64, ["M"]) for name, value in (("image", rows.image), ("source", source))
    }
    outputs["score"] = (rows.score, np.float32, ["M"])
    result = prepare(graph.model(outputs, doc=""))(**inputs)
    assert result["score"][-1] == 0, "the sentinel never counts"
    return np.stack([result["image"], result["source"]], axis=1)[:-1]


def reference(boxes: Array, threshold: float, smaller: bool) -> list[int]:
    """The package's rule on boxes that are already sorted: any better box suppresses."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    inter = np.clip(high - low, 0, None).prod(axis=2)
    whole = np.minimum(area[:, None], area) if smaller else area[:, None] + area - inter
    bad = np.triu(inter / whole > threshold, k=1)
    return np.flatnonzero(~bad.any(axis=0)).tolist()


def crowd(seed: int, count: int) -> Array:
    generator = np.random.default_rng(seed)
    corner = generator.uniform(0, 100, (count, 2))
    return np.concatenate([corner, corner + generator.uniform(20, 60, (count, 2))], axis=1)


def test_a_box_that_goes_itself_still_suppresses(prepare: Prepare) -> None:
    """In a row of three, each overlapping the next, greedy suppression would keep the last."""
    boxes = np.array([[[0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]]])
    left = suppressed(prepare, boxes, np.array([[0.9, 0.8, 0.7]]), 0.5)
    assert left.tolist() == [[0, 0]]


@pytest.mark.parametrize("smaller", [False, True])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_crowds_are_thinned_by_the_packages_rule(prepare: Prepare, threshold: float, smaller: bool) -> None:
    boxes = np.stack([crowd(seed, 150) for seed in range(3)])
    scores = np.broadcast_to(np.linspace(1, 0.1, 150), (3, 150))
    left = suppressed(prepare, boxes, scores, threshold, smaller=smaller)
    for image in range(3):
        kept = left[left[:, 0] == image, 1].tolist()
        assert kept == reference(boxes[image], threshold, smaller)
        assert 1 < len(kept) < 150


def test_levels_do_not_suppress_each_other(prepare: Prepare) -> None:
    boxes = np.array([[[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 10]]])
    scores = np.array([[0.9, 0.8, 0.7]])
    left = suppressed(prepare, boxes, scores, 0.5, level=np.array([[0, 1, 1]]))
    assert left[:, 1].tolist() == [0, 1]


def test_rows_of_score_zero_are_left_out_and_nothing_is_allowed(prepare: Prepare) -> None:
    boxes = np.array([[[0, 0, 10, 10]], [[0, 0, 10, 10]]])
    assert suppressed(prepare, boxes, np.array([[0.0], [0.5]]), 0.5).tolist() == [[1, 0]]
    assert suppressed(prepare, boxes, np.zeros((2, 1)), 0.5).shape == (0, 2)


def test_a_flat_list_is_sorted_and_suppressed_image_by_image(prepare: Prepare) -> None:
    graph = GraphBuilder()
    image = graph.input("image", np.int64, ["M"])
    box = graph.input("box", np.float32, ["M", 4])
    score = graph.input("score", np.float32, ["M"])
    images = graph.input("images", np.int64, ["N"])
    rows, source = suppress_rows(graph, Rows(image, box, score), images, 0.5, 10)
    outputs: dict[str, Output] = {"left": (rows.image, np.int64, ["L"]), "source": (source, np.int64, ["L"])}
    run = prepare(graph.model(outputs, doc=""))
    same = np.tile(np.array([[0, 0, 10, 10]], np.float32), (4, 1))
    scores = np.array([0.6, 0.5, 0.9, 0], np.float32)  # the last is a sentinel
    result = run(image=np.array([0, 1, 0, 0]), box=same, score=scores, images=np.arange(2))
    assert result["left"][:-1].tolist() == [0, 1]
    assert result["source"][:-1].tolist() == [2, 1]


def test_ranking_takes_the_best_above_the_floor_and_the_later_of_equals(prepare: Prepare) -> None:
    graph = GraphBuilder()
    score = graph.input("score", np.float32, ["N", "S"])
    ranking = rank(graph, score, 0.5, 3)
    outputs: dict[str, Output] = {
        "value": (ranking.score, np.float32, ["N", "K"]),
        "source": (ranking.source, np.int64, ["N", "K"]),
    }
    run = prepare(graph.model(outputs, doc=""))
    few = run(score=np.array([[0.5, 1, 0.7, 1], [0.2, 0.6, 0.1, 0]], np.float32))
    assert few["source"][0].tolist() == [3, 1, 2]
    assert few["source"][1, 0] == 1
    np.testing.assert_allclose(few["value"], [[1, 1, 0.7], [0.6, 0, 0]], rtol=1e-6)
    assert run(score=np.ones((1, 9), np.float32))["value"].shape == (1, 3), "at most the limit"
    assert run(score=np.zeros((2, 9), np.float32))["value"].tolist() == [[0], [0]], "never empty"
