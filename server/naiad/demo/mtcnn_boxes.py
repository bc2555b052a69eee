"""Lists of boxes in the MTCNN graph: ranking them image by image, and its suppression.

Between the stages boxes live in one flat list over the batch, so that the networks run on as many patches as
there are. The list always ends with a sentinel row that never counts: without it an image without faces would
send tensors of size zero through the networks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from naiad.demo.graph import GraphBuilder, Value

_HAIR = 1e-2


class Rows(NamedTuple):
    """A flat list of M rows over the batch, the last one a sentinel.

    `image` INT64 [M], `box` FP32 [M, 4] as x1, y1, x2, y2, `score` FP32 [M], 0 for a row that is out.
    """

    image: Value
    box: Value
    score: Value


class Ranking(NamedTuple):
    """The best K of each image, best first: `score` FP32 [N, K], 0 past the last; `source` INT64 [N, K]."""

    score: Value
    source: Value


class Levels(NamedTuple):
    """Keeps the pyramid's levels apart: `level` INT64 [N, K]; `spread` FP32 [1], farther than boxes reach."""

    level: Value
    spread: Value


def not_last(graph: GraphBuilder, rows: Value) -> Value:
    """BOOL [M]: false for the last of the M rows, the sentinel."""
    length = graph.size(rows, 0)
    return length - 1 > graph.arange(length)


def rank(graph: GraphBuilder, score: Value, floor: float, limit: int) -> Ranking:
    """The scores [N, S] above `floor` of each image, at most `limit`; `source` is the place among the S.

    Of equal scores (1.0 is not rare) the later comes first, as mostly in the package, which sorts up and
    reverses; TopK prefers the earlier one, so it gets the scores back to front.
    """
    above = graph.op("ReduceSum", (score > floor).cast(np.int64), np.array([1]), keepdims=0)
    most = graph.op("ReduceMax", above, axes=[0], keepdims=1)
    length = graph.op("Min", graph.op("Max", most, np.ones(1, np.int64)), limit)
    value, index = graph.multi("TopK", score.reverse(1), length, outputs=2, axis=1, largest=1, sorted=1)
    return Ranking(graph.op("Where", value > floor, value, 0.0), graph.size(score, 1) - 1 - index)


def rank_rows(graph: GraphBuilder, rows: Rows, images: Value, limit: int) -> Ranking:
    """The flat list image by image; `images` is INT64 0..N-1, `source` refers to the rows."""
    mine = graph.op("Equal", rows.image.unsqueeze(0), images.unsqueeze(1))  # [N, M]
    return rank(graph, graph.op("Where", mine, rows.score, 0.0), 0.0, limit)


def suppress_rows(
    graph: GraphBuilder, rows: Rows, images: Value, threshold: float, limit: int, *, smaller: bool = False
) -> tuple[Rows, Value]:
    """Suppress a flat list; see `suppress`. The second result tells which of `rows` each row left was."""
    ranking = rank_rows(graph, rows, images, limit)
    return suppress(graph, ranking, rows.box.gather(ranking.source), threshold, smaller=smaller)


def suppress(
    graph: GraphBuilder,
    ranking: Ranking,
    boxes: Value,
    threshold: float,
    *,
    levels: Levels | None = None,
    limit: int | None = None,
    smaller: bool = False,
) -> tuple[Rows, Value]:
    """Drop each box [N, K, 4] that a better one of its image (and level) overlaps by more than `threshold`.

    NonMaxSuppression, which is greedy, runs first: what it drops overlaps a better box and has to go here
    too, and the few that it leaves are quickly compared with all K. Its threshold is a hair higher, so that
    rounding cannot matter.

    Args:
        graph: where the nodes go.
        ranking: scores, best first.
        boxes: what is ranked.
        threshold: intersection over union, 0..1.
        levels: boxes of different levels do not suppress each other.
        limit: at most this many boxes of an image are left; None for all.
        smaller: divide the intersection by the smaller box instead of the union.

    Returns:
        The rows left, with a sentinel behind them, and `ranking.source` of each.
    """
    apart = boxes
    if levels is not None:
        apart = boxes + (levels.level.cast(np.float32) * levels.spread).unsqueeze(2)
    most = graph.size(boxes, 1) if limit is None else graph.constant(np.array([limit]))
    edge = np.array([threshold + _HAIR], np.float32)
    nothing = np.zeros(1, np.float32)
    greedy = graph.op("NonMaxSuppression", apart, ranking.score.unsqueeze(1), most, edge, nothing)
    # The sentinel points to the first box there is.
    selected = graph.concat(greedy, np.zeros((1, 3), np.int64))
    image, slot = selected.gather(0, axis=1), selected.gather(2, axis=1)
    hit = _overlapped(graph, boxes, image, slot, threshold, smaller=smaller)
    if levels is not None:
        near = levels.level.gather(image)
        own = graph.op("GatherElements", near, slot.unsqueeze(1), axis=1)
        hit = hit & graph.op("Equal", near, own)
    hits = graph.op("ReduceMax", hit.cast(np.int32), axes=[1], keepdims=0)
    keep = graph.op("Not", hits.cast(np.bool_)) & not_last(graph, slot)
    left = graph.concat(graph.op("NonZero", keep).reshape(-1), graph.size(slot, 0) - 1)
    image, slot = image.gather(left), slot.gather(left)
    place = graph.concat(image.unsqueeze(1), slot.unsqueeze(1), axis=1)
    score = graph.op("GatherND", ranking.score, place)
    score = graph.op("Where", not_last(graph, score), score, 0.0)
    rows = Rows(image, graph.op("GatherND", boxes, place), score)
    return rows, graph.op("GatherND", ranking.source, place)


def _overlapped(
    graph: GraphBuilder, boxes: Value, image: Value, slot: Value, threshold: float, *, smaller: bool
) -> Value:
    """BOOL [M, K]: whether box k of the same image is better than box `slot` of `image` and overlaps it."""
    x1, y1, x2, y2 = boxes.transpose(2, 0, 1).split([1, 1, 1, 1], axis=0)  # [1, N, K]
    # intersection / union > t is intersection > t / (1 + t) * (area + area): no division, no union.
    part = (x2 - x1) * (y2 - y1) * (threshold if smaller else threshold / (1 + threshold))
    others = graph.concat(x1, y1, x2, y2, part, axis=0).gather(image, axis=1)  # [5, M, K]
    pick = graph.op("Expand", slot.reshape(1, -1, 1), np.array([5, 1, 1]))
    mine = graph.op("GatherElements", others, pick, axis=2)  # [5, M, 1]
    ox1, oy1, ox2, oy2, opart = (others.gather(row) for row in range(5))  # [M, K]
    mx1, my1, mx2, my2, mpart = (mine.gather(row) for row in range(5))  # [M, 1]
    wide = graph.op("Relu", graph.op("Min", ox2, mx2) - graph.op("Max", ox1, mx1))
    high = graph.op("Relu", graph.op("Min", oy2, my2) - graph.op("Max", oy1, my1))
    bound = graph.op("Min", opart, mpart) if smaller else opart + mpart
    better = slot.unsqueeze(1) > graph.arange(graph.size(boxes, 1))
    return (wide * high > bound) & better
