"""The UltraFace family: boxes and scores, decoded against their priors within the graph. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from naiad.vision.detections import Detections
from naiad.vision.heads.base import DecodingHead, check_outputs, float_output, suppressed, to_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.core.tensors import Tensors
    from naiad.vision.heads.base import HeadConfig
    from naiad.vision.transform import Transform

_FACE = 1
"""Column of `scores`; column 0 is the background."""


class UltraFaceHead(DecodingHead):
    """Reads `scores [N, K, 2]` and `boxes [N, K, 4]` (corners, as fractions of the input). No landmarks."""

    def __init__(self, config: HeadConfig) -> None:
        """Check the outputs.

        Raises:
            InvalidArgumentError: they do not suit this head.
        """
        self._config = config.detect
        check_outputs(config, {"scores": (-1, 2), "boxes": (-1, 4)})

    @property
    def output_names(self) -> tuple[str, ...]:
        """Scores and boxes."""
        return ("scores", "boxes")

    @property
    def input_multiple(self) -> int:
        """Any side goes: the graph's input is fixed."""
        return 1

    def _faces(
        self, outputs: Tensors, transforms: Sequence[Transform], threshold: float, limit: int
    ) -> list[Detections]:
        scores = float_output(outputs, "scores", len(transforms), (-1, 2))[..., _FACE]
        boxes = float_output(outputs, "boxes", len(transforms), (scores.shape[1], 4))
        faces = []
        for score, box, transform in zip(scores, boxes, transforms, strict=True):
            # Sure faces tie at a score of 1: last first prefers the larger priors, as the source does.
            kept = np.flatnonzero(score >= threshold)[::-1]
            size = np.array([transform.input_width, transform.input_height] * 2, np.float32)
            candidates = Detections(box[kept] * size, score[kept])
            faces.append(to_image(suppressed(candidates, self._config.nms_iou, limit), transform))
        return faces
