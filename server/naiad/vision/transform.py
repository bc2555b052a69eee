"""Where a picture lies in the model's input, and the way back. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from naiad.vision.arrays import Floats


@dataclass(frozen=True, slots=True)
class Origin:
    """The upright original of a picture whose sides were decoded at one `reduction`-th of it, rounded up."""

    width: int
    height: int
    reduction: int


@dataclass(frozen=True, slots=True)
class Transform:
    """Where a picture lies in the model's input: `input = image * scale + offset`, in pixels, for x and y.

    `image_*` is the size of the picture, `input_*` of the whole input, border included.
    """

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float
    image_width: int
    image_height: int
    input_width: int
    input_height: int

    def to_image(self, points: Floats) -> Floats:
        """Map points `[..., 2]` (x, y) of the input to the picture, float32; they may lie outside it."""
        with np.errstate(over="ignore"):
            return ((points - self._offset()) / self._scale()).astype(np.float32, copy=False)

    def to_input(self, points: Floats) -> Floats:
        """Map points `[..., 2]` (x, y) of the picture to the input; float32."""
        return (points * self._scale() + self._offset()).astype(np.float32, copy=False)

    def boxes_to_image(self, boxes: Floats) -> Floats:
        """Map boxes `[n, 4]` (x1, y1, x2, y2) of the input to the picture; float32, not clipped."""
        return self.to_image(boxes.reshape(-1, 2, 2)).reshape(-1, 4)

    def _scale(self) -> Floats:
        return np.array([self.scale_x, self.scale_y], np.float32)

    def _offset(self) -> Floats:
        return np.array([self.offset_x, self.offset_y], np.float32)
