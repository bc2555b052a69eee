"""The first stage of MTCNN as ONNX nodes: the image pyramid, and P-Net's proposals from all its levels.

The package shrinks pictures by TensorFlow's area method: each pixel is the mean of the area that it covers.
ONNX has no such resize, and its antialiased ones lose faces; the method is linear in each axis, so two matrix
products do it, with weights computed in the graph because the picture's size is only known there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from naiad.demo.mtcnn_nets import PIXEL_OFFSET, PIXEL_SCALE, probability, run_net

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from naiad.demo.graph import GraphBuilder, Value
    from naiad.demo.mtcnn_weights import NetWeights

    Doubles = npt.NDArray[np.float64]

CELL = 12
"""P-Net judges windows of 12x12 pixels."""
STRIDE = 2
_BANDS = 8
"""Bands of rows in which the picture is shrunk (measured best at 640x480)."""


class Cells(NamedTuple):
    """P-Net's output over all levels of the pyramid, S cells an image.

    `probability` is FP32 [N, S], `offsets` FP32 [N, 4, S]. The rest describes the L levels: `start` INT64 [L]
    is each one's first cell, `columns` INT64 [L] how many cells make a row; `usable` BOOL [L]; `scale` FP32
    [L].
    """

    probability: Value
    offsets: Value
    start: Value
    columns: Value
    usable: Value
    scale: Value


def propose(
    graph: GraphBuilder, image: Value, weights: NetWeights, *, min_face_size: int, factor: float, levels: int
) -> Cells:
    """Run P-Net on every level of the pyramid.

    Args:
        graph: where the nodes go.
        image: FP32 [N, 3, H, W], pixels 0..255.
        weights: P-Net's.
        min_face_size: the smallest face in pixels, which decides the first level's scale.
        factor: the next level's size over this one's.
        levels: how many levels are built in; those that a picture is too small for yield nothing.
    """
    scales = np.array([CELL / min_face_size * factor**level for level in range(levels)])
    sides = (graph.size(image, 2), graph.size(image, 3))
    heights, widths, usable = _level_sizes(graph, *sides, scales, factor)
    shrunk = _resize(graph, image, heights, widths, levels)
    maps = [
        run_net(graph, "pnet", weights, small, offset=PIXEL_OFFSET, scale=PIXEL_SCALE).reshape(0, 5, -1)
        for small in shrunk
    ]
    columns = _cell_count(widths)
    start = graph.op("CumSum", _cell_count(heights) * columns, 0, exclusive=1)
    offsets, logit = graph.concat(*maps, axis=2).split([4, 1], axis=1)
    score = probability(graph, logit).reshape(0, -1)
    return Cells(score, offsets, start, columns, usable, graph.constant(scales.astype(np.float32)))


def _level_sizes(
    graph: GraphBuilder, height: Value, width: Value, scales: Doubles, factor: float
) -> tuple[Value, Value, Value]:
    """Rows and columns of each level (at least a cell, so that no tensor is empty), and which levels count.

    In FP64 like the package: what 640 * 0.6 is when cut to an integer depends on it. The package also stops
    at a number of levels that it computes from the picture's shorter side alone.
    """
    wanted = [graph.op("Floor", side.cast(np.float64) * scales).cast(np.int64) for side in (height, width)]
    ratio = graph.op("Min", height, width).cast(np.float64) * np.array([1 / CELL])
    count = graph.op("Round", graph.op("Log", ratio) * np.array([-1 / np.log(factor)]) - np.ones(1))
    within = count > np.arange(len(scales), dtype=np.float64)
    usable = (graph.op("Min", *wanted) >= CELL) & within
    rows, columns = (graph.op("Max", size, CELL) for size in wanted)
    return rows, columns, usable


def _cell_count(side: Value) -> Value:
    """Cells along a side of P-Net's output: 3x3 convolution, pool that rounds up, two 3x3 convolutions."""
    return (side - 1) / 2 - 4


def _resize(graph: GraphBuilder, image: Value, heights: Value, widths: Value, levels: int) -> list[Value]:
    """The picture FP32 [N, 3, H, W] in every level's size."""
    height, width = graph.size(image, 2), graph.size(image, 3)
    one = [np.array([level]) for level in range(levels)]
    rows = [heights.gather(level) for level in one]
    columns = [widths.gather(level) for level in one]
    short = _shrink_rows(graph, image, height, rows)
    return [_shrink_columns(graph, part, width, count) for part, count in zip(short, columns, strict=True)]


def _coverage(graph: GraphBuilder, pixel: Value, out: Value, ratio: Value) -> Value:
    """How much of output pixel `out` the input pixel `pixel` covers (0..1), by broadcasting; FP32.

    `ratio` is input over output size: input pixel j covers [j/ratio, (j+1)/ratio) of the output's axis.
    """
    end = graph.op("Min", (pixel + 1.0) / ratio, out + 1.0)
    return graph.op("Relu", end - graph.op("Max", pixel / ratio, out))


def _ratio(full: Value, small: Value) -> Value:
    return full.cast(np.float32) / small.cast(np.float32)


def _shrink_rows(graph: GraphBuilder, image: Value, height: Value, rows: Sequence[Value]) -> list[Value]:
    """[N, 3, height, W] to [N, 3, rows, W] for all levels at once.

    As one matrix product the weights would be nearly all zero. The picture is cut into bands, each long
    enough for every level's rows that begin in it; one batched product makes them all, then the rows are
    picked out.
    """
    band = (height + (_BANDS - 1)) / _BANDS
    begin = graph.constant(np.arange(_BANDS)) * band  # [bands]
    ratios = [_ratio(height, count) for count in rows]
    reach = band + graph.op("Ceil", graph.op("Max", *ratios)).cast(np.int64) + 1
    pixel = begin.unsqueeze(1) + graph.arange(reach)  # [bands, reach]
    bands = image.gather(graph.op("Min", pixel, height - 1), axis=2)  # [N, 3, bands, reach, W]
    pixel = pixel.cast(np.float32).unsqueeze(1)
    weights, firsts, room = [], [], []
    for ratio in ratios:
        first = graph.op("Ceil", begin.cast(np.float32) / ratio)  # each band's first row
        room.append(graph.op("Ceil", band.cast(np.float32) / ratio).cast(np.int64) + 1)
        out = first.unsqueeze(1) + graph.arange(room[-1]).cast(np.float32)  # [bands, room]
        weights.append(_coverage(graph, pixel, out.unsqueeze(2), ratio))
        firsts.append(first.cast(np.int64))
    made = graph.op("MatMul", graph.concat(*weights, axis=1), bands)  # [N, 3, bands, all rooms, W]
    flat = graph.op("Reshape", made, graph.concat(np.array([0, 0, -1]), graph.size(image, 3)))
    rooms = graph.concat(*room)
    stride = graph.op("ReduceSum", rooms, keepdims=1)
    starts = graph.op("CumSum", rooms, 0, exclusive=1)
    parts = []
    for level, (count, first) in enumerate(zip(rows, firsts, strict=True)):
        row = graph.arange(count)
        mine = (
            graph.op("ReduceSum", (row.unsqueeze(1) >= first).cast(np.int64), np.array([1]), keepdims=0) - 1
        )
        place = mine * stride + starts.gather(np.array([level])) + row - first.gather(mine)
        parts.append(flat.gather(place, axis=2))
    return parts


def _shrink_columns(graph: GraphBuilder, image: Value, width: Value, columns: Value) -> Value:
    """[N, 3, h, width] to [N, 3, h, columns]."""
    pixel = graph.arange(width).cast(np.float32).unsqueeze(1)
    out = graph.arange(columns).cast(np.float32).unsqueeze(0)
    return graph.op("MatMul", image, _coverage(graph, pixel, out, _ratio(width, columns)))
