"""The YuNet family: one prior a cell of three strides, boxes and five landmarks relative to it. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.vision.detections import Detections
from naiad.vision.heads.base import (
    DecodingHead,
    check_outputs,
    float_output,
    suppressed,
    to_image,
)
from naiad.vision.heads.grid import input_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.core.tensors import Tensors
    from naiad.vision.arrays import Floats
    from naiad.vision.heads.base import HeadConfig
    from naiad.vision.transform import Transform

_STRIDES = (8, 16, 32)
_SIZES = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
"""Numbers a cell has in each kind of output."""
_INPUT_SIZES = 16
"""Input sizes whose priors are kept: a model of free size may see a few, one of fixed size sees one."""


def priors(width: int, height: int) -> Floats:
    """x, y and stride of each cell of an input, float32 `[K, 3]`, stride by stride and row by row."""
    grids = []
    for stride in _STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        cells = np.stack([columns, rows, np.ones_like(rows)], axis=-1).reshape(-1, 3)
        grids.append((cells * stride).astype(np.float32))
    return np.concatenate(grids)


class YuNetHead(DecodingHead):
    """Reads `cls`, `obj`, `bbox` and `kps` of strides 8, 16 and 32; the score is cls times obj."""

    def __init__(self, config: HeadConfig) -> None:
        """Check outputs and input size.

        Raises:
            InvalidArgumentError: they do not suit this head.
        """
        self._config = config.detect
        self._priors = lru_cache(maxsize=_INPUT_SIZES)(priors)
        needed = {}
        for kind, size in _SIZES.items():
            for stride in _STRIDES:
                needed[f"{kind}_{stride}"] = (_cells(config, stride), size)
        check_outputs(config, needed)
        self._output_names = tuple(needed)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Four kinds for each of three strides."""
        return self._output_names

    @property
    def input_multiple(self) -> int:
        """The largest stride: the cells of all strides must cover the same input."""
        return _STRIDES[-1]

    def _faces(
        self, outputs: Tensors, transforms: Sequence[Transform], threshold: float, limit: int
    ) -> list[Detections]:
        cells = self._priors(*input_size(transforms))
        batch = len(transforms)
        scores = _joined(outputs, "cls", batch) * _joined(outputs, "obj", batch)
        boxes, landmarks = _joined(outputs, "bbox", batch), _joined(outputs, "kps", batch)
        if boxes.shape[1] != len(cells):
            raise InternalError(
                f"the model gave {boxes.shape[1]} cells, an input of {transforms[0].input_width}x"
                f"{transforms[0].input_height} has {len(cells)}"
            )
        scores = scores[..., 0]
        faces = []
        for picture, transform in enumerate(transforms):
            kept = np.flatnonzero(scores[picture] >= threshold)
            candidates = _candidates(
                cells[kept], boxes[picture, kept], landmarks[picture, kept], scores[picture, kept]
            )
            faces.append(to_image(suppressed(candidates, self._config.nms_iou, limit), transform))
        return faces


def _cells(config: HeadConfig, stride: int) -> int:
    """How many cells a stride has; -1 for an input of free size."""
    width, height = config.input.width, config.input.height
    if width is None or height is None:
        return -1
    if width % _STRIDES[-1] or height % _STRIDES[-1]:
        raise InvalidArgumentError(
            f"naiad.head '{config.detect.head}' needs sides that are multiples of {_STRIDES[-1]}, "
            f"naiad.input.size is {width}x{height}"
        )
    return (width // stride) * (height // stride)


def _joined(outputs: Tensors, kind: str, batch: int) -> Floats:
    """One kind of output, all strides after each other, `[batch, K, size]`."""
    arrays = [float_output(outputs, f"{kind}_{stride}", batch, (-1, _SIZES[kind])) for stride in _STRIDES]
    return np.concatenate(arrays, axis=1)


def _candidates(cells: Floats, boxes: Floats, landmarks: Floats, scores: Floats) -> Detections:
    """Boxes and landmarks in pixels of the input from what the cells say about them."""
    corner, stride = cells[:, :2], cells[:, 2:]
    centre = corner + boxes[:, :2] * stride
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is dropped as not finite
        half = np.exp(boxes[:, 2:]) * stride / 2
        corners = np.concatenate([centre - half, centre + half], axis=1)
    points = corner[:, np.newaxis] + landmarks.reshape(-1, 5, 2) * stride[:, np.newaxis]
    return Detections(corners, scores, points)
