"""Graphs that give finished boxes, one a row: corners, score, and landmarks and class if any. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from naiad.config.vision_config import Coordinates
from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.vision.detections import Detections
from naiad.vision.heads.base import DecodingHead, suppressed, to_image
from naiad.vision.heads.grid import batched, input_size
from naiad.vision.heads.outputs import Wanted, find_outputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.core.tensors import Tensors
    from naiad.vision.arrays import Floats
    from naiad.vision.heads.base import HeadConfig
    from naiad.vision.transform import Transform

_PLAIN = 5
"""Numbers of a row without landmarks and class."""
_MAX_LABEL = 2**31 - 1


class BoxesHead(DecodingHead):
    """Reads rows `[N, K, C]`, or `[K, C]` for a batch of one: x1, y1, x2, y2, score, landmarks, class.

    C is 5 for boxes alone, two more a landmark (x, y), and one more where the class comes last: an odd C has
    no class, an even one has. End-to-end exports of YOLO (`[N, 300, 6]`) are of this form. Coordinates are
    pixels of the input or fractions of it (`naiad.detect.coordinates`). Rows of score 0 or less are padding;
    boxes are suppressed once more, which `naiad.detect.nms_iou` 1 turns off.
    """

    def __init__(self, config: HeadConfig) -> None:
        """Check the outputs.

        Raises:
            InvalidArgumentError: they do not suit this head.
        """
        self._config = config.detect
        self._name = find_outputs(config, {"rows": Wanted((-1, -1), ("detections", "rows"))})["rows"]
        size = next(output.dims[-1] for output in config.outputs if output.name == self._name)
        if size != -1 and size < _PLAIN:
            raise InvalidArgumentError(
                f"naiad.head '{config.detect.head}' needs an output of rows with at least {_PLAIN} numbers "
                f"(x1, y1, x2, y2, score), '{self._name}' has {size}"
            )

    @property
    def output_names(self) -> tuple[str, ...]:
        """The rows."""
        return (self._name,)

    @property
    def input_multiple(self) -> int:
        """Not known: the graph must take any side that its config allows."""
        return 1

    def _faces(
        self, outputs: Tensors, transforms: Sequence[Transform], threshold: float, limit: int
    ) -> list[Detections]:
        pictures = batched(outputs, self._name, len(transforms), (-1, -1))
        if pictures.shape[2] < _PLAIN:
            raise InternalError(
                f"output '{self._name}' has rows of {pictures.shape[2]} numbers, "
                f"at least {_PLAIN} were expected"
            )
        unit: tuple[int, int] = (1, 1)
        if self._config.coordinates is Coordinates.FRACTIONS:
            unit = input_size(transforms)
        faces = []
        for rows, transform in zip(pictures, transforms, strict=True):
            found = _candidates(rows[rows[:, 4] >= threshold], unit)
            faces.append(to_image(suppressed(found, self._config.nms_iou, limit), transform))
        return faces


def _candidates(rows: Floats, unit: tuple[int, int]) -> Detections:
    """Rows `[n, C]` in pixels of the input; `unit` is what a coordinate of 1 means, for x and y."""
    count = (rows.shape[1] - _PLAIN) // 2
    labels = None
    if rows.shape[1] % 2 == 0:
        rows = rows[np.abs(rows[:, -1]) < _MAX_LABEL]  # what no integer holds is no class, NaN included
        labels = np.rint(rows[:, -1]).astype(np.int32)
    scale = np.array(unit, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is dropped as not finite
        boxes = (rows[:, :4].reshape(-1, 2, 2) * scale).reshape(-1, 4)
        points = rows[:, _PLAIN : _PLAIN + 2 * count].reshape(len(rows), count, 2) * scale
    return Detections(boxes, rows[:, 4], points if count else None, labels)
