"""MTCNN, a face detector of three small networks, as one batched ONNX graph: pixels in, faces out.

Zhang et al. 2016. The algorithm is that of the PyPI package `mtcnn` 1.0.0 (MIT), whose weights it takes: its
suppression is not greedy (a box goes if ANY better box overlaps it, even one that goes itself), and the last
one divides by the smaller box. Each image of a batch is treated as if it were alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from naiad.core.errors import InvalidArgumentError
from naiad.demo.graph import GraphBuilder
from naiad.demo.mtcnn_boxes import Levels, not_last, rank, rank_rows, suppress, suppress_rows
from naiad.demo.mtcnn_nets import PIXEL_OFFSET, PIXEL_SCALE, probability, run_net
from naiad.demo.mtcnn_pyramid import CELL, STRIDE, propose
from naiad.demo.mtcnn_weights import NETS, load_weights

if TYPE_CHECKING:
    import onnx

    from naiad.demo.graph import Output, Value
    from naiad.demo.mtcnn_boxes import Rows
    from naiad.demo.mtcnn_pyramid import Cells

_LEVEL_IOU, _IOU = 0.5, 0.7
"""The package's suppression thresholds: within a level of the pyramid, and everywhere else."""


@dataclass(frozen=True, slots=True)
class MtcnnSettings:
    """What the graph is built with; the defaults are the package's, and bounds that photos rarely reach.

    `min_face_size` is in pixels, `factor` the size of a pyramid level over the one before, `levels` how many
    are built in (16 serve a shorter side of 4900 pixels at factor 0.709; larger faces are then not found).
    `max_candidates`, `max_proposals` and `max_faces` bound what one image takes, the best first, into the
    first suppression, the second network and the third.

    Raises:
        InvalidArgumentError: a value is out of range.
    """

    min_face_size: int = 20
    factor: float = 0.709
    levels: int = 16
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.8)
    max_candidates: int = 8192
    max_proposals: int = 2048
    max_faces: int = 512

    def __post_init__(self) -> None:
        if self.min_face_size < CELL:
            raise InvalidArgumentError(f"min_face_size is {self.min_face_size}, at least {CELL} is needed")
        if not 0 < self.factor < 1:
            raise InvalidArgumentError(f"factor is {self.factor}, it must lie between 0 and 1")
        for name in ("levels", "max_candidates", "max_proposals", "max_faces"):
            if getattr(self, name) < 1:
                raise InvalidArgumentError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if not all(0 < threshold < 1 for threshold in self.thresholds):
            raise InvalidArgumentError(f"thresholds are {self.thresholds}, each must lie between 0 and 1")


def build_mtcnn(settings: MtcnnSettings | None = None) -> onnx.ModelProto:
    """Build the graph.

    Input `image` UINT8 [N, H, W, 3] RGB. Outputs `boxes` FP32 [N, K, 4] (x1, y1, x2, y2 in pixels of the
    input, within it), `scores` FP32 [N, K], `landmarks` FP32 [N, K, 5, 2] (x, y of left eye, right eye, nose,
    left and right mouth corner) and `count` INT32 [N]. K is the batch's largest count, at least 1; rows past
    an image's count are zero; the best face is first.

    Raises:
        UnavailableError: a package of the extra `demo` is missing.
        InternalError: the installed `mtcnn` has other weights than 1.0.0.
    """
    settings = settings or MtcnnSettings()
    graph = GraphBuilder()
    image = graph.input("image", np.uint8, ["N", "H", "W", 3]).transpose(0, 3, 1, 2).cast(np.float32)
    weights = {net: load_weights(net) for net in NETS}
    cascade = _Cascade(graph, image, settings)
    sizes = {"min_face_size": settings.min_face_size, "levels": settings.levels}
    cells = propose(graph, image, weights["pnet"], factor=settings.factor, **sizes)
    rows = cascade.square(cascade.first_stage(cells))
    answer = run_net(graph, "rnet", weights["rnet"], cascade.crop(rows, 24), scale=PIXEL_SCALE)
    rows = cascade.square(cascade.second_stage(rows, answer))
    answer = run_net(graph, "onet", weights["onet"], cascade.crop(rows, 48), scale=PIXEL_SCALE)
    outputs = cascade.third_stage(rows, answer)
    source = "weights of the PyPI package mtcnn 1.0.0 (MIT License, Copyright 2019-2024 Ivan de Paz Centeno)"
    return graph.model(outputs, doc=f"MTCNN face detector; {source}; {settings}")


class _Cascade:
    """The steps between the networks."""

    def __init__(self, graph: GraphBuilder, image: Value, settings: MtcnnSettings) -> None:
        self._graph = graph
        self._image = image
        self._settings = settings
        self._images = graph.arange(graph.size(image, 0))
        sides = graph.size(image, 3), graph.size(image, 2)
        self._shape = graph.concat(*sides).cast(np.float32)
        """Width and height, FP32 [2]."""

    def first_stage(self, cells: Cells) -> Rows:
        """P-Net's cells to boxes, suppressed within each level and then across levels."""
        graph, settings = self._graph, self._settings
        best = rank(graph, cells.probability, settings.thresholds[0], settings.max_candidates)
        reached = (best.source.unsqueeze(2) >= cells.start).cast(np.int64)  # [N, K, levels]
        level = graph.op("ReduceSum", reached, np.array([2]), keepdims=0) - 1
        boxes = self._cell_boxes(cells, best.source, level)
        usable = graph.op("Where", cells.usable.gather(level), best.score, 0.0)
        spread = graph.op("ReduceSum", self._shape, keepdims=1) * 2.0
        limit = settings.max_proposals
        rows, _ = suppress(
            graph, best._replace(score=usable), boxes, _LEVEL_IOU, levels=Levels(level, spread), limit=limit
        )
        return suppress_rows(graph, rows, self._images, _IOU, limit)[0]

    def second_stage(self, rows: Rows, answer: Value) -> Rows:
        """R-Net's answer [M, 5] applied to its boxes, the weak ones dropped, the rest suppressed."""
        offsets, logit = answer.split([4, 1], axis=1)
        rows = self._refine(rows, offsets, logit, self._settings.thresholds[1])
        return suppress_rows(self._graph, rows, self._images, _IOU, self._settings.max_faces)[0]

    def third_stage(self, rows: Rows, answer: Value) -> dict[str, Output]:
        """O-Net's answer [M, 15] to the graph's outputs."""
        graph, limit = self._graph, self._settings.max_faces
        offsets, points, logit = answer.split([4, 10, 1], axis=1)
        points = self._points(rows, points)
        rows = self._refine(rows, offsets, logit, self._settings.thresholds[2])
        rows, source = suppress_rows(graph, rows, self._images, _IOU, limit, smaller=True)
        best = rank_rows(graph, rows, self._images, limit)
        there = best.score > 0.0
        mask = there.cast(np.float32).unsqueeze(2)
        limits = graph.concat(self._shape, self._shape) - 1.0
        boxes = graph.op("Min", graph.op("Relu", rows.box.gather(best.source)), limits) * mask
        landmarks = points.gather(source).gather(best.source) * mask
        count = graph.op("ReduceSum", there.cast(np.int32), np.array([1]), keepdims=0)
        return {
            "boxes": (boxes, np.float32, ["N", "K", 4]),
            "scores": (best.score, np.float32, ["N", "K"]),
            "landmarks": (landmarks.reshape(0, 0, 2, 5).transpose(0, 1, 3, 2), np.float32, ["N", "K", 5, 2]),
            "count": (count, np.int32, ["N"]),
        }

    def square(self, rows: Rows) -> Rows:
        """Boxes made square about their centres, by the longer side."""
        graph = self._graph
        low, high = rows.box.split([2, 2], axis=1)
        size = high - low
        side = graph.op("ReduceMax", size, axes=[1], keepdims=1)
        low = low + size * 0.5 - side * 0.5
        return rows._replace(box=graph.concat(low, low + side, axis=1))

    def crop(self, rows: Rows, size: int) -> Value:
        """Patches FP32 [M, 3, size, size], 0 for mid grey, as TensorFlow's crop_and_resize takes them.

        Its samples lie on the box's edges, RoiAlign's in the middle of bins: a box larger by half a bin on
        each side makes them the same. Samples outside the picture are 0 there, RoiAlign still repeats the
        border for one pixel: the mask takes that away.
        """
        graph = self._graph
        last = self._shape - 1.0
        low, high = ((corner / self._shape) * last for corner in rows.box.split([2, 2], axis=1))
        step = (high - low) * (1 / (size - 1))
        half = step * 0.5
        rois = graph.concat(low - half + 0.5, high + half + 0.5, axis=1)
        sampling = {"sampling_ratio": 1, "coordinate_transformation_mode": "half_pixel"}
        patches = graph.op(
            "RoiAlign", self._image, rois, rows.image, output_height=size, output_width=size, **sampling
        )
        at = low.unsqueeze(2) + step.unsqueeze(2) * np.arange(size, dtype=np.float32)  # [M, 2, size]
        inside = ((at >= 0.0) & (last.unsqueeze(1) >= at)).cast(np.float32)
        across, down = inside.split([1, 1], axis=1)  # [M, 1, size]
        return (patches - PIXEL_OFFSET) * (down.unsqueeze(3) * across.unsqueeze(2))

    def _cell_boxes(self, cells: Cells, cell: Value, level: Value) -> Value:
        """FP32 [N, K, 4]: the windows of the cells [N, K] in the picture, moved by P-Net's offsets."""
        graph = self._graph
        columns = cells.columns.gather(level)
        place = cell - cells.start.gather(level)
        row = place / columns
        corner = graph.concat((place - row * columns).unsqueeze(1), row.unsqueeze(1), axis=1) * STRIDE
        corner = corner.cast(np.float32)  # [N, 2, K]
        # The package's windows start one pixel in: 2x + 1 to 2x + 12.
        window = graph.concat(corner + 1.0, corner + float(CELL), axis=1)
        four = graph.op("Expand", cell.unsqueeze(1), np.array([1, 4, 1]))
        offsets = graph.op("GatherElements", cells.offsets, four, axis=2)
        boxes = (window + offsets * float(CELL - 1)) / cells.scale.gather(level).unsqueeze(1)
        return boxes.transpose(0, 2, 1)

    def _refine(self, rows: Rows, offsets: Value, logit: Value, threshold: float) -> Rows:
        """Boxes moved by their offsets, scores replaced; 0 at or below the threshold and for the sentinel."""
        graph = self._graph
        low, high = rows.box.split([2, 2], axis=1)
        size = high - low + 1.0
        box = rows.box + offsets * graph.concat(size, size, axis=1)
        score = probability(graph, logit).reshape(-1)
        strong = (score > threshold) & not_last(graph, score)
        return rows._replace(box=box, score=graph.op("Where", strong, score, 0.0))

    def _points(self, rows: Rows, points: Value) -> Value:
        """O-Net's landmarks [M, 10] (5 x, 5 y), fractions of its box, in pixels."""
        low, high = rows.box.split([2, 2], axis=1)
        size = (high - low + 1.0).unsqueeze(2)  # [M, 2, 1]
        return (points.reshape(0, 2, 5) * size + low.unsqueeze(2) - 1.0).reshape(0, 10)
