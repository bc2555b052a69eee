"""The RetinaFace family (PyTorch ports, MobileNet and ResNet alike): SSD priors and variances. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from naiad.core.errors import InternalError
from naiad.vision.detections import Detections
from naiad.vision.heads.base import DecodingHead, unsuitable
from naiad.vision.heads.grid import (
    INPUT_SIZES,
    batched,
    cell_count,
    cells,
    corners_of,
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

_PRIOR_SIZES = {8: (16, 32), 16: (64, 128), 32: (256, 512)}
"""Sides in pixels of the square priors of each stride's cells."""
_CENTRE_VARIANCE, _SIZE_VARIANCE = 0.1, 0.2
_COLUMNS = (4, 2, 10)
"""Last dimensions of the outputs for boxes, for background and face, and for landmarks."""
_FACE = 1
_NEEDS = "an output of boxes [K, 4], one of scores [K, 2] and one of landmarks [K, 10]"


def priors(width: int, height: int) -> Floats:
    """Centre x, centre y and side in pixels of each prior of an input, float32 `[K, 3]`, read-only.

    Stride by stride and row by row, the smaller prior of a cell first.
    """
    parts = []
    for stride, sides in _PRIOR_SIZES.items():
        centres = cells(width, height, stride, len(sides)) + np.float32(stride / 2)
        column = np.tile(np.array(sides, np.float32), len(centres) // len(sides))
        parts.append(np.column_stack([centres, column]))
    result = np.concatenate(parts)
    result.flags.writeable = False
    return result


class RetinaFaceHead(DecodingHead):
    """Reads `[N, K, 4]`, `[N, K, 2]` and `[N, K, 10]`, told apart by the last dimension; scores sum to 1.

    RetinaFace (Deng et al. 2019) as biubug6/Pytorch_Retinaface reads it: the centre moves by a tenth of the
    prior's side a unit, the side grows by the exponent of a fifth, landmarks move as the centre does. The
    source suppresses before it drops scores below the threshold, which leaves the same faces: a face is only
    ever suppressed by a better one. It counts areas with one pixel more a side, so two faces of 20 pixels
    overlap by about 0.02 more there, two of 100 pixels by 0.004: it suppresses the worse one of a pair that
    is as near as that to the limit, and this head keeps both.
    """

    def __init__(self, config: HeadConfig) -> None:
        """Check outputs and input size.

        Raises:
            InvalidArgumentError: they do not suit this head.
        """
        self._config = config.detect
        self._priors = lru_cache(maxsize=INPUT_SIZES)(priors)
        self._output_names = _find(config)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Boxes, scores, landmarks."""
        return self._output_names

    @property
    def input_multiple(self) -> int:
        """Any side goes: a cell at the right or bottom edge may reach outside."""
        return 1

    def _faces(
        self, outputs: Tensors, transforms: Sequence[Transform], threshold: float, limit: int
    ) -> list[Detections]:
        known = self._priors(*input_size(transforms))
        boxes, scores, landmarks = (
            batched(outputs, name, len(transforms), (-1, columns))
            for name, columns in zip(self._output_names, _COLUMNS, strict=True)
        )
        for array in (boxes, scores, landmarks):
            _check_priors(array, known, transforms[0])
        kept = where(scores[..., _FACE], threshold)
        candidates = _candidates(known[kept.row], boxes[kept], scores[kept][:, _FACE], landmarks[kept])
        return faces_of(candidates, kept.picture, transforms, self._config.nms_iou, limit)


def _find(config: HeadConfig) -> tuple[str, ...]:
    """The names of the outputs for boxes, scores and landmarks.

    Raises:
        InvalidArgumentError: one is missing or there are two, or their rows do not fit the input.
    """
    found = [outputs_like(config, (-1, columns)) for columns in _COLUMNS]
    if any(len(outputs) != 1 for outputs in found):
        raise unsuitable(config, _NEEDS)
    size = fixed_size(config)
    if size is not None:
        rows = sum(len(sides) * cell_count(*size, [stride]) for stride, sides in _PRIOR_SIZES.items())
        if any(output.dims[-2] not in {-1, rows} for (output,) in found):
            raise unsuitable(config, f"{_NEEDS}, K {rows} for an input of {size[0]}x{size[1]}")
    return tuple(output.name for (output,) in found)


def _check_priors(array: Floats, known: Floats, transform: Transform) -> None:
    if array.shape[1] != len(known):
        raise InternalError(
            f"the model gave {array.shape[1]} rows, an input of {transform.input_width}x"
            f"{transform.input_height} has {len(known)} priors"
        )


def _candidates(known: Floats, boxes: Floats, scores: Floats, landmarks: Floats) -> Detections:
    """Faces in pixels of the input from what the rows say about their priors."""
    centre, side = known[:, :2], known[:, 2:]
    with overflow():
        middle = centre + boxes[:, :2] * (_CENTRE_VARIANCE * side)
        sizes = side * np.exp(boxes[:, 2:] * _SIZE_VARIANCE)
        step = (_CENTRE_VARIANCE * side)[:, np.newaxis]
        points = centre[:, np.newaxis] + landmarks.reshape(-1, 5, 2) * step
    return Detections(corners_of(middle, sizes), scores, points)
