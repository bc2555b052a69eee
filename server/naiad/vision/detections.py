"""The faces of one picture. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from naiad.vision.arrays import Floats


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Faces in pixels of the upright picture, the best first; they may reach outside it.

    `boxes` is float32 `[n, 4]` (x1, y1, x2, y2), `scores` float32 `[n]`. `landmarks` is float32 `[n, 5, 2]`
    (left eye, right eye, nose, left and right mouth corner as seen in the picture), or None when the model
    finds boxes only.
    """

    boxes: Floats
    scores: Floats
    landmarks: Floats | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, index: slice | npt.NDArray[np.integer]) -> Detections:
        """The faces at `index`, in that order."""
        landmarks = None if self.landmarks is None else self.landmarks[index]
        return Detections(self.boxes[index], self.scores[index], landmarks)
