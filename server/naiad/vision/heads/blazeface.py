"""The BlazeFace family: boxes and six keypoints relative to anchors of one size, faces blended. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.vision.detections import Detections
from naiad.vision.heads.base import DecodingHead, to_image
from naiad.vision.heads.grid import INPUT_SIZES, batched, corners_of, fixed_size, input_size, sigmoid
from naiad.vision.heads.outputs import Wanted, find_outputs
from naiad.vision.nms import blended

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.core.tensors import Tensors
    from naiad.vision.arrays import Floats
    from naiad.vision.heads.base import HeadConfig
    from naiad.vision.transform import Transform

_GRIDS = (((8, 2), (16, 6)), ((16, 2), (32, 6)), ((4, 1),))
"""Stride and anchors a cell of each grid: the models for near faces, far ones, and all."""
_MULTIPLE = 32
_KEYPOINTS = 6
_VALUES = 4 + 2 * _KEYPOINTS


def anchors(width: int, height: int, count: int) -> Floats | None:
    """Centres (x, y) in pixels of the `count` anchors of an input, float32 `[count, 2]`.

    The anchors of MediaPipe's SsdAnchorsCalculator, all of size 1: grid by grid, row by row. None where no
    model of the family has so many for such an input.
    """
    for grids in _GRIDS:
        if sum((width // stride) * (height // stride) * each for stride, each in grids) == count:
            return np.concatenate([_grid(width, height, stride, each) for stride, each in grids])
    return None


def _grid(width: int, height: int, stride: int, each: int) -> Floats:
    rows, columns = np.mgrid[: height // stride, : width // stride]
    centres = (np.stack([columns, rows], axis=-1).reshape(-1, 2) + 0.5) * stride
    return np.repeat(centres, each, axis=0).astype(np.float32)


class BlazeFaceHead(DecodingHead):
    """Reads boxes `[N, K, 16]` and scores `[N, K, 1]` (logits), by their dims.

    Bazarevsky et al. 2019 and the models of MediaPipe, decoded as BlazeFace-PyTorch does. K tells the model:
    896 anchors of an input of 128x128 or 256x256, or 2304 of 192x192. Of the six landmarks, left eye, right
    eye, nose, mouth, left and right ear as seen in the picture, there is one of the mouth: they cannot align.
    """

    def __init__(self, config: HeadConfig) -> None:
        """Check outputs and input size.

        Raises:
            InvalidArgumentError: they do not suit this head.
        """
        self._config = config.detect
        self._anchors = lru_cache(maxsize=INPUT_SIZES)(anchors)
        found = find_outputs(config, {"boxes": Wanted((-1, _VALUES)), "scores": Wanted((-1, 1))})
        self._boxes, self._scores = found["boxes"], found["scores"]
        _check_count(config, {output.dims[-2] for output in config.outputs if output.name in found.values()})

    @property
    def output_names(self) -> tuple[str, ...]:
        """Boxes and scores."""
        return (self._boxes, self._scores)

    @property
    def input_multiple(self) -> int:
        """The largest stride."""
        return _MULTIPLE

    def _faces(
        self, outputs: Tensors, transforms: Sequence[Transform], threshold: float, limit: int
    ) -> list[Detections]:
        logits = batched(outputs, self._scores, len(transforms), (-1, 1))[..., 0]
        boxes = batched(outputs, self._boxes, len(transforms), (logits.shape[1], _VALUES))
        centres = self._centres(transforms, logits.shape[1])
        scores = sigmoid(logits)
        faces = []
        for score, values, transform in zip(scores, boxes, transforms, strict=True):
            kept = np.flatnonzero(score >= threshold)
            found = _candidates(centres[kept], values[kept], score[kept]).finite()
            faces.append(to_image(blended(found, self._config.nms_iou).take(slice(limit)), transform))
        return faces

    def _centres(self, transforms: Sequence[Transform], count: int) -> Floats:
        width, height = input_size(transforms)
        centres = self._anchors(width, height, count)
        if centres is None:
            raise InternalError(f"no anchors are known for {count} rows of an input of {width}x{height}")
        return centres


def _check_count(config: HeadConfig, counts: set[int]) -> None:
    """See that boxes and scores have as many rows as the input has anchors."""
    size = fixed_size(config)
    counts = counts - {-1}
    if size is None:
        return
    if len(counts) > 1 or any(anchors(*size, count) is None for count in counts):
        raise InvalidArgumentError(
            f"naiad.head '{config.detect.head}' knows no anchors for {sorted(counts)} rows of an input of "
            f"{size[0]}x{size[1]}: 896 are for 128x128 or 256x256, 2304 for 192x192"
        )


def _candidates(centres: Floats, values: Floats, scores: Floats) -> Detections:
    """Boxes and landmarks in pixels of the input: values are pixels too, and anchors have size 1."""
    boxes = corners_of(centres + values[:, :2], values[:, 2:4])
    points = values[:, 4:].reshape(-1, _KEYPOINTS, 2) + centres[:, np.newaxis]
    return Detections(boxes, scores, points)
