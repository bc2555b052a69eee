"""MTCNN as one graph, its three nets and their suppression inside: reads the finished faces. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from naiad.core.errors import InternalError
from naiad.vision.detections import Detections
from naiad.vision.heads.base import DecodingHead, check_outputs, float_output, to_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.core.tensors import Tensors
    from naiad.vision.heads.base import HeadConfig
    from naiad.vision.transform import Transform


class MtcnnHead(DecodingHead):
    """Reads `boxes [N, K, 4]`, `scores [N, K]`, `landmarks [N, K, 5, 2]` and `count [N]`.

    All in pixels of the input, the best first; rows from `count` on are padding.
    """

    def __init__(self, config: HeadConfig) -> None:
        """Check the outputs.

        Raises:
            InvalidArgumentError: they do not suit this head.
        """
        self._config = config.detect
        check_outputs(config, {"boxes": (-1, 4), "scores": (-1,), "landmarks": (-1, 5, 2), "count": ()})

    @property
    def output_names(self) -> tuple[str, ...]:
        """Boxes, scores, landmarks and how many of them count."""
        return ("boxes", "scores", "landmarks", "count")

    @property
    def input_multiple(self) -> int:
        """Any side goes: the graph scales pictures itself."""
        return 1

    def _faces(
        self, outputs: Tensors, transforms: Sequence[Transform], threshold: float, limit: int
    ) -> list[Detections]:
        batch = len(transforms)
        scores = float_output(outputs, "scores", batch, (-1,))
        size = scores.shape[1]
        boxes = float_output(outputs, "boxes", batch, (size, 4))
        landmarks = float_output(outputs, "landmarks", batch, (size, 5, 2))
        counts = _counts(outputs, batch, size)
        faces = []
        for picture, (count, transform) in enumerate(zip(counts, transforms, strict=True)):
            found = Detections(boxes[picture, :count], scores[picture, :count], landmarks[picture, :count])
            kept = np.flatnonzero(found.scores >= threshold)[:limit]
            faces.append(to_image(found.take(kept), transform))
        return faces


def _counts(outputs: Tensors, batch: int, size: int) -> list[int]:
    """Faces of each picture; `count` may come as `[N]` or `[N, 1]`."""
    if "count" not in outputs:
        raise InternalError("the model gave no output 'count'")
    counts = outputs["count"].reshape(-1).astype(np.int64)
    if len(counts) != batch or (counts < 0).any() or (counts > size).any():
        raise InternalError(
            f"output 'count' is {counts.tolist()}, {batch} numbers between 0 and {size} were expected"
        )
    return [int(count) for count in counts]
