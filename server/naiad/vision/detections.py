"""The faces of one picture. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from naiad.vision.arrays import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Faces in pixels of the upright picture, the best first; they may reach outside it.

    `boxes` is float32 `[n, 4]` (x1, y1, x2, y2), `scores` float32 `[n]`. `landmarks` is float32 `[n, P, 2]`,
    or None when the model finds boxes only. Five of them are left eye, right eye, nose, left and right mouth
    corner as seen in the picture, which alignment needs; another number is in the model's own order.
    `labels` is int32 `[n]`, the class of each as the model counts it, or None when it knows faces only.
    """

    boxes: Floats
    scores: Floats
    landmarks: Floats | None = None
    labels: npt.NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, index: slice | npt.NDArray[np.integer]) -> Detections:
        """The faces at `index`, in that order."""
        landmarks = None if self.landmarks is None else self.landmarks[index]
        labels = None if self.labels is None else self.labels[index]
        return Detections(self.boxes[index], self.scores[index], landmarks, labels)

    def finite(self) -> Detections:
        """The faces whose box, score and landmarks are all finite numbers: a model may overflow."""
        numbers = (self.boxes, self.scores, self.landmarks)
        if all(each is None or np.isfinite(each).all() for each in numbers):  # as nearly always
            return self
        usable = np.isfinite(self.boxes).all(axis=1) & np.isfinite(self.scores)
        if self.landmarks is not None:
            usable &= np.isfinite(self.landmarks).all(axis=(1, 2))
        return self.take(np.flatnonzero(usable))
