"""The SCRFD family (InsightFace): distances from anchor points of three or five strides. Pure."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from naiad.core.errors import InternalError
from naiad.vision.detections import Detections
from naiad.vision.heads.base import DecodingHead, output_suits, unsuitable
from naiad.vision.heads.grid import (
    INPUT_SIZES,
    batched,
    cell_count,
    cells,
    check_sides,
    faces_of,
    fixed_size,
    input_size,
    outputs_like,
    overflow,
    where,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.core.tensors import Tensors
    from naiad.vision.arrays import Floats
    from naiad.vision.heads.base import HeadConfig
    from naiad.vision.transform import Transform

_STRIDES = {3: (8, 16, 32), 5: (8, 16, 32, 64, 128)}
_SIZES = {"score": 1, "bbox": 4, "kps": 10}
"""Numbers that an anchor has in each kind of output."""
_NEEDS = (
    "an output of scores [K, 1] and one of boxes [K, 4] for each of 3 or 5 strides, and one of landmarks "
    "[K, 10] for each or for none"
)


class ScrfdHead(DecodingHead):
    """Reads scores, boxes and, where the model has them, landmarks of each stride.

    The outputs are `score_8`, `bbox_8`, `kps_8` and so on by name, or of any names: then their last
    dimension tells their kind, and their rows the stride. One or two anchors a cell, also by the rows. Files
    whose outputs have no batch dimension (`[12800, 1]`) work for one picture a run.

    Sample and Computation Redistribution (Guo et al. 2021), as `model_zoo/scrfd.py` of InsightFace reads it:
    an anchor lies at the top left corner of its cell; boxes are the distances to left, top, right and bottom
    in strides, landmarks the offsets in strides. The source counts areas with one pixel more a side, so two
    faces of 20 pixels overlap by about 0.02 more there, two of 100 pixels by 0.004: it suppresses the worse
    one of a pair that is as near as that to the limit, and this head keeps both.
    """

    def __init__(self, config: HeadConfig) -> None:
        """Check outputs and input size.

        Raises:
            InvalidArgumentError: they do not suit this head.
        """
        self._config = config.detect
        self._names = _find(config)
        self._strides = _STRIDES[len(self._names["score"])]
        self._cells = lru_cache(maxsize=INPUT_SIZES * len(self._strides))(cells)
        check_sides(config, self._strides[-1])
        _check_rows(config, self._names, self._strides)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Scores of all strides, then boxes, then landmarks."""
        return tuple(name for names in self._names.values() for name in names)

    @property
    def input_multiple(self) -> int:
        """The largest stride: the cells of all strides must cover the same input."""
        return self._strides[-1]

    def _faces(
        self, outputs: Tensors, transforms: Sequence[Transform], threshold: float, limit: int
    ) -> list[Detections]:
        size, batch = input_size(transforms), len(transforms)
        scores = self._by_stride(outputs, "score", batch)
        boxes = self._by_stride(outputs, "bbox", batch)
        landmarks = self._by_stride(outputs, "kps", batch)
        anchors = _anchors(scores, self._strides, size)
        found, pictures = [], []
        for level, stride in enumerate(self._strides):
            kept = where(scores[level][..., 0], threshold)
            centres = self._cells(*size, stride, anchors)[kept.row]
            rows = [_rows(kind[level], scores[level])[kept] for kind in (boxes, landmarks) if kind]
            found.append(_candidates(centres, stride, scores[level][kept][:, 0], rows))
            pictures.append(kept.picture)
        joined = _joined(found, with_landmarks=bool(landmarks))
        return faces_of(joined, np.concatenate(pictures), transforms, self._config.nms_iou, limit)

    def _by_stride(self, outputs: Tensors, kind: str, batch: int) -> list[Floats]:
        """One kind of output, `[batch, K, size]` a stride, the smallest stride first: it has most rows."""
        arrays = [batched(outputs, name, batch, (-1, _SIZES[kind])) for name in self._names[kind]]
        return sorted(arrays, key=lambda array: -array.shape[1])


def _find(config: HeadConfig) -> dict[str, tuple[str, ...]]:
    """The names of the outputs of each kind, a stride each.

    Raises:
        InvalidArgumentError: there are not as many of each as a stride needs.
    """
    names = {kind: _named(config, kind) for kind in _SIZES}
    if not names["score"]:
        names = {
            kind: tuple(output.name for output in outputs_like(config, (-1, size)))
            for kind, size in _SIZES.items()
        }
    strides = len(names["score"])
    if strides not in _STRIDES or len(names["bbox"]) != strides or len(names["kps"]) not in {0, strides}:
        raise unsuitable(config, _NEEDS)
    return names


def _named(config: HeadConfig, kind: str) -> tuple[str, ...]:
    """The outputs called by kind and stride; their rows need not be declared, nor their last dimension."""
    pattern, dims = rf"{kind}_[0-9]+", (-1, _SIZES[kind])
    return tuple(
        output.name
        for output in config.outputs
        if re.fullmatch(pattern, output.name) and output_suits(output, dims)
    )


def _check_rows(config: HeadConfig, names: dict[str, tuple[str, ...]], strides: tuple[int, ...]) -> None:
    """See that fixed outputs fit a fixed input.

    Raises:
        InvalidArgumentError: the rows that an output declares are of no stride of the input.
    """
    size = fixed_size(config)
    if size is None:
        return
    rows = {anchors * cell_count(*size, [stride]) for stride in strides for anchors in (1, 2)}
    for output in config.outputs:
        if output.name not in {name for kind in names.values() for name in kind}:
            continue
        if output.dims[-2:-1] not in {(), (-1,), *((count,) for count in rows)}:
            raise unsuitable(config, f"{_NEEDS}, K one or two a cell of an input of {size[0]}x{size[1]}")


def _anchors(scores: Sequence[Floats], strides: tuple[int, ...], size: tuple[int, int]) -> int:
    """How many anchors a cell has, 1 or 2.

    Raises:
        InternalError: the rows of some stride are not that many a cell.
    """
    counts = [cell_count(*size, [stride]) for stride in strides]
    rows = [array.shape[1] for array in scores]
    for anchors in (1, 2):
        if rows == [anchors * count for count in counts]:
            return anchors
    raise InternalError(
        f"the model gave {rows} anchors, an input of {size[0]}x{size[1]} has {counts} cells of 1 or 2 each"
    )


def _rows(array: Floats, scores: Floats) -> Floats:
    """`array`, which has as many rows as `scores`.

    Raises:
        InternalError: it has not.
    """
    if array.shape[1] != scores.shape[1]:
        raise InternalError(
            f"the model gave boxes or landmarks of {array.shape[1]} anchors, scores of {scores.shape[1]}"
        )
    return array


def _candidates(centres: Floats, stride: int, scores: Floats, rows: Sequence[Floats]) -> Detections:
    """Faces in pixels of the input from their rows of boxes and, if any, of landmarks."""
    with overflow():
        distances = rows[0] * stride
        boxes = np.concatenate([centres - distances[:, :2], centres + distances[:, 2:]], axis=1)
        if len(rows) == 1:
            return Detections(boxes, scores)
        return Detections(boxes, scores, centres[:, np.newaxis] + rows[1].reshape(-1, 5, 2) * stride)


def _joined(found: Sequence[Detections], *, with_landmarks: bool) -> Detections:
    landmarks = [faces.landmarks for faces in found if faces.landmarks is not None]
    return Detections(
        np.concatenate([faces.boxes for faces in found]),
        np.concatenate([faces.scores for faces in found]),
        np.concatenate(landmarks) if with_landmarks else None,
    )
