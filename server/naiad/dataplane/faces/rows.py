"""Pictures and crops as rows of a batch: written when it is formed, or before."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from naiad.core.tensors import placeholder
from naiad.vision.embedder import Crop

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from naiad.core.tensors import Array
    from naiad.dataplane.faces.images import Picture
    from naiad.vision.preprocess import Preprocessor
    from naiad.vision.transform import Transform

MAX_DEFERRED_BYTES = 8 * 2**20
"""The largest picture, in bytes of pixels, that may wait in a queue in place of its tensor.

A frame of 1080 rows takes 6 MB, the input of a detector 5 MB. Larger ones would make a full queue many times
as large."""


class Row:
    """A picture, or a part of one, that fills one row of a model's input.

    `transform` is the way back from the input to the original, once the row was written.
    """

    __slots__ = ("_crop", "_origin", "_preprocessor", "_transform", "may_wait", "shape")

    def __init__(self, preprocessor: Preprocessor, picture: Picture, crop: Crop | None = None) -> None:
        """Take a picture, or what is to be cropped from it.

        Raises:
            InvalidArgumentError: the model cannot take a picture of its size.
        """
        self._preprocessor = preprocessor
        self._crop = crop or Crop(picture.pixels)
        self._origin = None if crop else picture.origin
        self._transform: Transform | None = None
        fixed = preprocessor.fixed_shape
        self.shape = fixed or preprocessor.shape_for(self._crop.image)
        self.may_wait = fixed is not None and picture.pixels.nbytes <= MAX_DEFERRED_BYTES
        """Whether its pixels may wait in a queue: they are not many, and its shape is every other's too."""

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The input's datatype."""
        return self._preprocessor.dtype

    @property
    def transform(self) -> Transform:
        """The way back from the input's pixels to the original's."""
        assert self._transform is not None, "the row was not written"
        return self._transform

    def write(self, slot: Array) -> None:
        """Cut out, resize and normalise into `slot`, of `shape` and `dtype`; safe to repeat."""
        self._transform = self._preprocessor.write(self._crop.pixels(), slot, self._origin)


@dataclass(slots=True, eq=False)
class RowBatch:
    """The rows of one request for a model, and how long writing them took. A `TensorSource`."""

    rows: Sequence[Row]
    batched: bool
    written_ns: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The input's, with the batch dimension if the model has one."""
        shape = self.rows[0].shape
        return (len(self.rows), *shape) if self.batched else shape

    def placeholder(self) -> Array:
        """An array of its shape without values."""
        return placeholder(self.shape, self.rows[0].dtype)

    def tensor(self) -> Array:
        """The values, in memory of their own."""
        tensor: Array = np.empty(self.shape, self.rows[0].dtype)
        self.read_into(tensor)
        return tensor

    def read_into(self, target: Array) -> None:
        """Write all rows to their places."""
        start_ns = time.monotonic_ns()
        for row, slot in zip(self.rows, target if self.batched else (target,), strict=True):
            row.write(slot)
        self.written_ns = time.monotonic_ns() - start_ns


def batches_of(rows: Sequence[Row], max_batch_size: int) -> Iterator[RowBatch]:
    """Rows as requests: as many neighbours of one shape in each as a batch holds.

    Full batches, and at last a rest: requests are never split, so single rows would let an idle instance take
    the first one alone, and a picture's faces would need more runs than they fill.

    Args:
        rows: in order.
        max_batch_size: the model's; 0 if it has no batch dimension.
    """
    start = 0
    for end in range(1, len(rows) + 1):
        is_full = end - start >= max(1, max_batch_size)
        if end == len(rows) or is_full or rows[end].shape != rows[start].shape:
            yield RowBatch(rows[start:end], batched=max_batch_size > 0)
            start = end
