"""The MogFace family: scores and boxes of one square anchor a cell of six strides. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from naiad.core.errors import InternalError
from naiad.vision.detections import Detections
from naiad.vision.heads.base import DecodingHead, suppressed, to_image
from naiad.vision.heads.grid import INPUT_SIZES, batched, fixed_size, input_size
from naiad.vision.heads.outputs import Wanted, find_outputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.core.tensors import Tensors
    from naiad.vision.arrays import Floats
    from naiad.vision.heads.base import HeadConfig
    from naiad.vision.transform import Transform

_STRIDES = (4, 8, 16, 32, 64, 128)
_SIDE = 4 * 0.68
"""Side of an anchor in strides: anchors of 16 to 512 pixels, scaled as the project's detector does."""


def anchors(width: int, height: int) -> Floats:
    """Centre x, y and side in pixels of each anchor of an input, float32 `[K, 3]`, row by row."""
    grids = []
    for stride in _STRIDES:
        rows, columns = np.mgrid[: -(-height // stride), : -(-width // stride)]  # cells that reach over count
        sides = np.full(rows.shape, _SIDE)
        grids.append(np.stack([columns + 0.5, rows + 0.5, sides], axis=-1).reshape(-1, 3) * stride)
    return np.concatenate(grids).astype(np.float32)


class MogFaceHead(DecodingHead):
    """Reads scores `[N, K, 1]`, or `[N, K, 2]` with the background first, and boxes `[N, K, 4]`.

    Liu et al. 2022 (damo-cv/MogFace), decoded as its port in ModelScope does: scores are probabilities, boxes
    the centre's offset and the logarithm of the size in sides of the anchor, without variances; the last
    pixel belongs to a box, so a width of w ends at x + w - 1. No landmarks.
    """

    def __init__(self, config: HeadConfig) -> None:
        """Check the outputs.

        Raises:
            InvalidArgumentError: they do not suit this head.
        """
        self._config = config.detect
        self._anchors = lru_cache(maxsize=INPUT_SIZES)(anchors)
        size = fixed_size(config)
        cells = -1 if size is None else len(self._anchors(*size))
        with_background = any(output.dims[-1:] == (2,) for output in config.outputs)
        self._columns = 2 if with_background else 1
        found = find_outputs(config, {"scores": Wanted((cells, self._columns)), "boxes": Wanted((cells, 4))})
        self._scores, self._boxes = found["scores"], found["boxes"]

    @property
    def output_names(self) -> tuple[str, ...]:
        """Scores and boxes."""
        return (self._scores, self._boxes)

    @property
    def input_multiple(self) -> int:
        """Any side goes: cells that reach over the edge count."""
        return 1

    def _faces(
        self, outputs: Tensors, transforms: Sequence[Transform], threshold: float, limit: int
    ) -> list[Detections]:
        scores = batched(outputs, self._scores, len(transforms), (-1, self._columns))[..., -1]
        boxes = batched(outputs, self._boxes, len(transforms), (scores.shape[1], 4))
        width, height = input_size(transforms)
        cells = self._anchors(width, height)
        if len(cells) != scores.shape[1]:
            raise InternalError(
                f"the model gave {scores.shape[1]} cells, an input of {width}x{height} has {len(cells)}"
            )
        faces = []
        for score, box, transform in zip(scores, boxes, transforms, strict=True):
            kept = np.flatnonzero(score >= threshold)
            found = Detections(_corners(cells[kept], box[kept]), score[kept])
            faces.append(to_image(suppressed(found, self._config.nms_iou, limit), transform))
        return faces


def _corners(cells: Floats, boxes: Floats) -> Floats:
    """Boxes (x1, y1, x2, y2) in pixels of the input."""
    side = cells[:, 2:]
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is dropped as not finite
        centre = cells[:, :2] + boxes[:, :2] * side
        half = (np.exp(boxes[:, 2:]) * side - 1) / 2
        return np.concatenate([centre - half, centre + half], axis=1)
