"""The YOLOv5-face family: three anchors a cell, five landmarks; raw maps or decoded rows. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from naiad.vision.detections import Detections
from naiad.vision.heads.base import DecodingHead, unsuitable
from naiad.vision.heads.grid import (
    INPUT_SIZES,
    batched,
    cells,
    check_map,
    check_sides,
    corners_of,
    faces_of,
    input_size,
    logit_below,
    outputs_like,
    overflow,
    sigmoid,
    where,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from naiad.core.tensors import Tensors
    from naiad.vision.arrays import Floats
    from naiad.vision.heads.base import HeadConfig
    from naiad.vision.transform import Transform

    Found = tuple[npt.NDArray[np.intp], Detections]

_ANCHORS = {
    8: ((4, 5), (8, 10), (13, 16)),
    16: ((23, 29), (43, 55), (73, 105)),
    32: ((146, 217), (231, 300), (335, 433)),
}
"""Width and height in pixels of each stride's anchors."""
_SIZE = 16
"""Numbers an anchor has: box (4), objectness, landmarks (10), class."""
_OBJECT, _POINTS, _CLASS = 4, slice(5, 15), 15
_NEEDS = "an output of decoded rows [K, 16], or three of raw maps [3, H, W, 16]"


def priors(width: int, height: int, stride: int) -> Floats:
    """Left, top, anchor width and anchor height in pixels, float32 `[K, 4]`, read-only: anchor by anchor."""
    corners = cells(width, height, stride)
    parts = [
        np.column_stack([corners, np.tile(np.array(anchor, np.float32), (len(corners), 1))])
        for anchor in _ANCHORS[stride]
    ]
    result = np.concatenate(parts)
    result.flags.writeable = False
    return result


class YoloV5FaceHead(DecodingHead):
    """Reads one output `[N, K, 16]`, else three raw maps `[N, 3, H, W, 16]`, the stride by their size.

    YOLO5Face (Qi et al. 2021), `models/yolo.py` of deepcam-cn/yolov5-face: a raw map holds logits of centre,
    size, objectness and class, and landmarks as fractions of the anchor. The score is objectness times class.
    """

    def __init__(self, config: HeadConfig) -> None:
        """Check outputs and input size.

        Raises:
            InvalidArgumentError: they do not suit this head.
        """
        self._config = config.detect
        self._priors = lru_cache(maxsize=INPUT_SIZES * len(_ANCHORS))(priors)
        rows, maps = outputs_like(config, (-1, _SIZE)), outputs_like(config, (3, -1, -1, _SIZE))
        # An export may have the raw maps beside the decoded rows: those save the decoding.
        chosen = rows if len(rows) == 1 else maps
        if not (len(rows) == 1 or (not rows and len(maps) == len(_ANCHORS))):
            raise unsuitable(config, _NEEDS)
        self._decoded = len(rows) == 1
        self._output_names = tuple(output.name for output in chosen)
        check_sides(config, self.input_multiple)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The decoded rows, or the three maps."""
        return self._output_names

    @property
    def input_multiple(self) -> int:
        """The largest stride: the cells of all strides must cover the same input."""
        return max(_ANCHORS)

    def _faces(
        self, outputs: Tensors, transforms: Sequence[Transform], threshold: float, limit: int
    ) -> list[Detections]:
        if self._decoded:
            rows = batched(outputs, self._output_names[0], len(transforms), (-1, _SIZE))
            picture, candidates = _from_rows(rows, threshold)
        else:
            picture, candidates = self._from_maps(outputs, transforms, threshold)
        return faces_of(candidates, picture, transforms, self._config.nms_iou, limit)

    def _from_maps(self, outputs: Tensors, transforms: Sequence[Transform], threshold: float) -> Found:
        size, batch = input_size(transforms), len(transforms)
        maps = [batched(outputs, name, batch, (3, -1, -1, _SIZE)) for name in self._output_names]
        maps.sort(key=lambda array: -array.shape[2])
        pictures, decoded = [], []
        for stride, array in zip(_ANCHORS, maps, strict=True):
            check_map(array.shape[2], array.shape[3], size, stride)
            known = self._priors(*size, stride)
            flat = array.reshape(batch, -1, _SIZE)
            kept = where(flat[..., _OBJECT], logit_below(threshold))
            pictures.append(kept.picture)
            decoded.append(_decode(flat[kept], known[kept.row], stride))
        picture, rows = np.concatenate(pictures), np.concatenate(decoded)
        kept_rows, candidates = _candidates(rows, threshold)
        return picture[kept_rows], candidates


def _decode(raw: Floats, known: Floats, stride: int) -> Floats:
    """What the graph's own decoding would have given for these raw rows `[m, 16]`."""
    corner, anchor = known[:, :2], known[:, 2:]
    rows = raw.copy()
    rows[:, :5] = sigmoid(raw[:, :5])
    rows[:, _CLASS] = sigmoid(raw[:, _CLASS])
    with overflow():
        rows[:, :2] = corner + (rows[:, :2] * 2 - 0.5) * stride
        rows[:, 2:4] = (rows[:, 2:4] * 2) ** 2 * anchor
        rows[:, _POINTS] = np.tile(corner, 5) + raw[:, _POINTS] * np.tile(anchor, 5)
    return rows


def _from_rows(rows: Floats, threshold: float) -> Found:
    """Candidates from decoded rows `[batch, K, 16]`."""
    kept = where(rows[..., _OBJECT], threshold)
    kept_rows, candidates = _candidates(rows[kept], threshold)
    return kept.picture[kept_rows], candidates


def _candidates(rows: Floats, threshold: float) -> Found:
    """Which of the decoded rows `[m, 16]` reach the threshold, and the faces in them."""
    with overflow():
        scores = rows[:, _OBJECT] * rows[:, _CLASS]
    kept = np.flatnonzero(scores >= threshold)
    best = rows[kept]
    points = best[:, _POINTS].reshape(-1, 5, 2)
    return kept, Detections(corners_of(best[:, :2], best[:, 2:4]), scores[kept], points)
