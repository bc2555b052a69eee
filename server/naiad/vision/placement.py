"""Where a picture goes in a model's input: to fit, to fill, in the corner or the middle. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from naiad.config.vision_config import Resize
from naiad.vision.transform import Transform

if TYPE_CHECKING:
    from naiad.core.tensors import Array
    from naiad.vision.arrays import Pixels
    from naiad.vision.transform import Origin

    Size = tuple[int, int]

_LETTERBOXES = (Resize.LETTERBOX, Resize.LETTERBOX_CENTER)
_ONE_SCALE = 0.01
"""Letterbox rounds one side to whole pixels, so its two scales differ by a trifle. Up to this share the
vertical one stands for both in the corner, as in the projects of detectors that are fed so; a picture so thin
that rounding changes its shape by more keeps both."""


class Area(NamedTuple):
    """A rectangle of whole pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def rows(self) -> slice:
        """Its rows in an array that begins with rows."""
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        """Its columns in an array of rows and columns."""
        return slice(self.left, self.left + self.width)


class Placement(NamedTuple):
    """The part of a picture that goes into a model's input, and its place there.

    `one_scale` says that the vertical scale stands for both where they differ by rounding alone.
    """

    source: Area
    target: Area
    one_scale: bool = False

    def transform(self, origin: Origin, size: Size) -> Transform:
        """The way back from an input of `size` (width, height) to the original of the picture."""
        source, target, _ = self
        # A reduced picture stands for whole groups of pixels; the last may reach beyond its original.
        scale_x = target.width / (source.width * origin.reduction)
        scale_y = target.height / (source.height * origin.reduction)
        if self.one_scale and abs(scale_x / scale_y - 1) <= _ONE_SCALE:
            scale_x = scale_y
        return Transform(
            scale_x=scale_x,
            scale_y=scale_y,
            offset_x=target.left - source.left * target.width / source.width,
            offset_y=target.top - source.top * target.height / source.height,
            image_width=origin.width,
            image_height=origin.height,
            input_width=size[0],
            input_height=size[1],
        )


def fitted(resize: Resize, image: Size, size: Size) -> Size:
    """Width and height that a picture, or what is cropped from it, has within an input.

    Args:
        resize: any but NONE.
        image: width and height of the picture.
        size: width and height of the input.
    """
    (image_width, image_height), (width, height) = image, size
    if resize not in _LETTERBOXES:
        return size
    # Whole numbers: the long side fits exactly, the other is rounded, but never to nothing. Downwards in the
    # corner and to the nearest in the middle, as the projects whose models want the one or the other do.
    half = 1 if resize is Resize.LETTERBOX_CENTER else 0
    if image_height * width > image_width * height:
        return max(1, (2 * height * image_width + half * image_height) // (2 * image_height)), height
    return width, max(1, (2 * width * image_height + half * image_width) // (2 * image_width))


def place(resize: Resize, image: Pixels, origin: Origin, size: Size) -> Placement:
    """What part of a picture goes where in an input.

    Args:
        resize: how.
        image: uint8 `[H, W, 3]`.
        origin: what the picture is a reduced copy of; it has the same place.
        size: width and height of the input.
    """
    height, width = image.shape[:2]
    whole = Area(0, 0, width, height)
    if resize is Resize.NONE:
        return Placement(whole, whole)
    if resize is Resize.CROP:
        # What is cut off is never scaled: of a very long picture that could be any amount of memory.
        part_width = min(width, max(1, round(height * size[0] / size[1])))
        part_height = min(height, max(1, round(width * size[1] / size[0])))
        left, top = (width - part_width) // 2, (height - part_height) // 2
        return Placement(Area(left, top, part_width, part_height), Area(0, 0, *size))
    fit = fitted(resize, (origin.width, origin.height), size)
    left = top = 0
    if resize is Resize.LETTERBOX_CENTER:
        left, top = (size[0] - fit[0]) // 2, (size[1] - fit[1]) // 2
    one_scale = origin.reduction == 1 and resize is Resize.LETTERBOX
    return Placement(whole, Area(left, top, *fit), one_scale)


def scaled_to(image: Pixels, size: Size, out: Array | None = None) -> Pixels:
    """`image` at `size` (width, height), bilinear; in one pass also in `out` (uint8), where that is given."""
    if image.shape[1::-1] != size:
        scaled: Pixels = cv2.resize(image, size, dst=out, interpolation=cv2.INTER_LINEAR)
        return scaled
    if out is not None:
        np.copyto(out, image)
    return image
