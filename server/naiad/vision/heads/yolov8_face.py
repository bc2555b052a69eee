"""The YOLOv8-face family: a box and five landmarks a cell; raw maps or decoded columns. Pure."""

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

_STRIDES = (8, 16, 32)
_BINS = 16
"""Bins that each side's distance is spread over."""
_CLASS = 4 * _BINS
"""Channel of the class in a raw map: the sides come before, the landmarks after."""
_RAW = _CLASS + 1 + 15
_DECODED = (5 + 15, 5 + 10)
"""Rows of a decoded output: box, score, landmarks with a visibility each, or without."""
_SCORE = 4
_NEEDS = "an output of decoded columns [20, K] or [15, K], or three of raw maps [80, H, W]"


class YoloV8FaceHead(DecodingHead):
    """Reads one output `[N, 20, K]`, else three raw maps `[N, 80, H, W]`, the stride by their size.

    Decoded columns are what Ultralytics' pose export gives: centre, size, score, and x, y and visibility of
    five landmarks, in pixels of the input. A raw map holds, for each side, the distribution of its distance
    over 16 bins (distribution focal loss, Li et al. 2020; the distance is its mean, in strides from the
    middle of the cell), the class's logit, and landmarks in half strides from the cell's corner with a
    visibility, as hpc203/yolov8-face-landmarks-opencv-dnn reads them. The source clips boxes to the input;
    this head does not.
    """

    def __init__(self, config: HeadConfig) -> None:
        """Check outputs and input size.

        Raises:
            InvalidArgumentError: they do not suit this head.
        """
        self._config = config.detect
        self._cells = lru_cache(maxsize=INPUT_SIZES * len(_STRIDES))(cells)
        columns = [output for size in _DECODED for output in outputs_like(config, (size, -1))]
        maps = outputs_like(config, (_RAW, -1, -1))
        # An export may have the raw maps beside the decoded columns: those save the decoding.
        if not (len(columns) == 1 or (not columns and len(maps) == len(_STRIDES))):
            raise unsuitable(config, _NEEDS)
        self._decoded = len(columns) == 1
        self._size = columns[0].dims[-2] if self._decoded else _RAW
        self._output_names = tuple(output.name for output in (columns or maps))
        check_sides(config, self.input_multiple)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The decoded columns, or the three maps."""
        return self._output_names

    @property
    def input_multiple(self) -> int:
        """The largest stride: the cells of all strides must cover the same input."""
        return _STRIDES[-1]

    def _faces(
        self, outputs: Tensors, transforms: Sequence[Transform], threshold: float, limit: int
    ) -> list[Detections]:
        if self._decoded:
            columns = batched(outputs, self._output_names[0], len(transforms), (self._size, -1))
            picture, candidates = _from_columns(columns, threshold)
        else:
            picture, candidates = self._from_maps(outputs, transforms, threshold)
        return faces_of(candidates, picture, transforms, self._config.nms_iou, limit)

    def _from_maps(self, outputs: Tensors, transforms: Sequence[Transform], threshold: float) -> Found:
        size, batch = input_size(transforms), len(transforms)
        maps = [batched(outputs, name, batch, (_RAW, -1, -1)) for name in self._output_names]
        maps.sort(key=lambda array: -array.shape[2])
        pictures, faces = [], []
        for stride, array in zip(_STRIDES, maps, strict=True):
            check_map(array.shape[2], array.shape[3], size, stride)
            flat = array.reshape(batch, _RAW, -1)
            kept = where(flat[:, _CLASS], logit_below(threshold))
            pictures.append(kept.picture)
            corner = self._cells(*size, stride)[kept.row]
            faces.append(_decode(flat[kept.picture, :, kept.row], corner, stride))
        found = Detections(
            np.concatenate([face.boxes for face in faces]),
            np.concatenate([face.scores for face in faces]),
            np.concatenate([face.landmarks for face in faces if face.landmarks is not None]),
        )
        sure = np.flatnonzero(found.scores >= threshold)
        return np.concatenate(pictures)[sure], found.take(sure)


def _decode(raw: Floats, corner: Floats, stride: int) -> Detections:
    """Faces in pixels of the input from raw cells `[m, 80]` and their corners `[m, 2]`."""
    distances = _expected_bins(raw[:, :_CLASS].reshape(-1, 4, _BINS)) * stride
    middle = corner + np.float32(stride / 2)
    boxes = np.concatenate([middle - distances[:, :2], middle + distances[:, 2:]], axis=1)
    offsets = raw[:, _CLASS + 1 :].reshape(-1, 5, 3)[..., :2]
    with overflow():
        points = corner[:, np.newaxis] + offsets * np.float32(2 * stride)
    return Detections(boxes, sigmoid(raw[:, _CLASS]), points)


def _expected_bins(logits: Floats) -> Floats:
    """The mean of each distribution, float32 `[m, 4]`, in bins."""
    with overflow():
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        means: Floats = weights @ np.arange(_BINS, dtype=np.float32) / weights.sum(axis=-1)
        return means


def _from_columns(columns: Floats, threshold: float) -> Found:
    """Candidates from decoded columns `[batch, size, K]`."""
    kept = where(columns[:, _SCORE], threshold)
    best: Floats = columns[kept.picture, :, kept.row]
    points = best[:, _SCORE + 1 :].reshape(-1, 5, columns.shape[1] // 5 - 1)[..., :2]
    return kept.picture, Detections(corners_of(best[:, :2], best[:, 2:4]), best[:, _SCORE], points)
