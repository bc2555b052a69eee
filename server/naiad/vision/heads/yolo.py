"""Plain YOLO detectors (v5, v7, v8, v11 exports): boxes with a class each, decoded by the graph. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from naiad.core.errors import InternalError
from naiad.vision.detections import Detections
from naiad.vision.heads.base import DecodingHead, unsuitable
from naiad.vision.heads.grid import (
    batched,
    cell_count,
    check_sides,
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

    import numpy.typing as npt

    from naiad.config.model_config import TensorConfig
    from naiad.core.tensors import Tensors
    from naiad.vision.arrays import Floats
    from naiad.vision.heads.base import HeadConfig
    from naiad.vision.transform import Transform

    Found = tuple[npt.NDArray[np.intp], Detections]

_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))
"""Those of the usual graphs, of the ones for large inputs (P6) and of the ones for small things (P2)."""
_ANCHORS = 3
"""Anchors a cell has in v5 and v7."""
_OBJECT = 4
_NEEDS = (
    "an output of columns [4 + classes, K] (v8, v11; K one a cell) or of rows [K, 5 + classes] (v5, v7; "
    "K three a cell)"
)


class YoloHead(DecodingHead):
    """Reads `[N, 4 + classes, K]` or `[N, K, 5 + classes]`; `labels` are classes, suppressed each by itself.

    The first is what Ultralytics exports of v8 and v11 give: centre and size in pixels of the input, then a
    score a class. The second is that of v5 and v7, with the objectness before the classes: the score is
    objectness times class. Each box has its best class only. How many cells the input has tells the two
    apart; an output that fits neither is refused, as are graphs that end in their own suppression (rows of
    corners), which look like rows of one class.
    """

    def __init__(self, config: HeadConfig) -> None:
        """Check outputs and input size.

        Raises:
            InvalidArgumentError: they do not suit this head.
        """
        self._config = config.detect
        self._output, self._rows = _find(config)
        check_sides(config, self.input_multiple)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The one output."""
        return (self._output.name,)

    @property
    def input_multiple(self) -> int:
        """The largest stride of the usual graphs."""
        return 32

    def _faces(
        self, outputs: Tensors, transforms: Sequence[Transform], threshold: float, limit: int
    ) -> list[Detections]:
        array = batched(outputs, self._output.name, len(transforms), self._output.dims[-2:])
        size = input_size(transforms)
        known = _row_counts(size, self._rows)
        count = array.shape[1 if self._rows else 2]
        if count not in known:
            raise InternalError(
                f"the model gave {count} boxes, an input of {size[0]}x{size[1]} has {sorted(known)}"
            )
        picture, candidates = (_from_rows if self._rows else _from_columns)(array, threshold)
        return faces_of(candidates, picture, transforms, self._config.nms_iou, limit)


def _row_counts(size: tuple[int, int], rows: bool) -> set[int]:
    """How many boxes a graph may give for an input of (width, height) pixels."""
    return {cell_count(*size, strides) * (_ANCHORS if rows else 1) for strides in _STRIDES}


def _find(config: HeadConfig) -> tuple[TensorConfig, bool]:
    """The output, and whether it holds rows.

    Raises:
        InvalidArgumentError: no output fits, or it could be read in both ways.
    """
    size = fixed_size(config)
    found = [
        (output, rows)
        for output in outputs_like(config, (-1, -1))
        for rows in (True, False)
        if _fits(output, size, rows)
    ]
    if len(found) != 1:
        where_from = "" if size is None else f" for an input of {size[0]}x{size[1]}"
        raise unsuitable(config, f"{_NEEDS}{where_from}")
    return found[0]


def _fits(output: TensorConfig, size: tuple[int, int] | None, rows: bool) -> bool:
    count, numbers = output.dims[-2:] if rows else output.dims[:-3:-1]
    if numbers < (6 if rows else 5):  # a box of at least one class; -1 is any size and says nothing
        return False
    # Where the graph leaves its input open it should leave K open too; a number there may be a class count.
    return count == -1 or (size is not None and count in _row_counts(size, rows))


def _from_rows(rows: Floats, threshold: float) -> Found:
    """Candidates from `[batch, K, 5 + classes]`."""
    kept = where(rows[..., _OBJECT], threshold)
    likely: Floats = rows[kept]
    with overflow():
        scores = likely[:, _OBJECT + 1 :] * likely[:, _OBJECT, np.newaxis]
    candidates = _candidates(likely[:, :4], scores)
    sure = np.flatnonzero(candidates.scores >= threshold)
    return kept.picture[sure], candidates.take(sure)


def _from_columns(columns: Floats, threshold: float) -> Found:
    """Candidates from `[batch, 4 + classes, K]`."""
    kept = where(columns[:, 4:].max(axis=1), threshold)
    best: Floats = columns[kept.picture, :, kept.row]
    return kept.picture, _candidates(best[:, :4], best[:, 4:])


def _candidates(boxes: Floats, scores: Floats) -> Detections:
    """Every box `[m, 4]` (centre and size) with the best of its scores `[m, classes]`."""
    labels = scores.argmax(axis=1)
    best: Floats = scores[np.arange(len(boxes)), labels]
    return Detections(corners_of(boxes[:, :2], boxes[:, 2:]), best, None, labels.astype(np.int32))
