"""The CenterFace family: a heatmap of face centres, and size, offset and landmarks of each. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from naiad.vision.detections import Detections
from naiad.vision.heads.base import DecodingHead, suppressed, to_image
from naiad.vision.heads.grid import batched, check_sides, fixed_size, input_size
from naiad.vision.heads.outputs import Wanted, find_outputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from naiad.core.tensors import Tensors
    from naiad.vision.arrays import Floats
    from naiad.vision.heads.base import HeadConfig
    from naiad.vision.transform import Transform

_STRIDE = 4
_MULTIPLE = 32
_LANDMARKS = 5


class CenterFaceHead(DecodingHead):
    """Reads maps of one cell every 4 pixels: heatmap `[N, 1, h, w]`, scale, offset and landmarks.

    Scale and offset are `[N, 2, h, w]`, height or y first; landmarks are `[N, 10, h, w]`, y before x, and may
    be missing. Xu et al. 2019, decoded as Star-Clouds/CenterFace does, whose published files name them 537 to
    540, and 535 to 537 without landmarks; scale and offset are alike, so under names other than these, or
    `scale` and `offset`, they are refused. Unlike there, boxes may reach outside the picture.
    """

    def __init__(self, config: HeadConfig) -> None:
        """Check the outputs.

        Raises:
            InvalidArgumentError: they do not suit this head.
        """
        self._config = config.detect
        check_sides(config, _MULTIPLE)
        width, height = fixed_size(config) or (-1, -1)
        cells = (height // _STRIDE, width // _STRIDE)  # any size stays any: -1 // 4 is -1
        self._names = find_outputs(
            config,
            {
                "heatmap": Wanted((1, *cells), ("heatmap", "537", "535")),
                "scale": Wanted((2, *cells), ("scale", "538", "536")),
                "offset": Wanted((2, *cells), ("offset", "539", "537")),
                "landmarks": Wanted((2 * _LANDMARKS, *cells), ("landmarks", "540"), optional=True),
            },
        )

    @property
    def output_names(self) -> tuple[str, ...]:
        """Heatmap, scale, offset, and landmarks where there are any."""
        return tuple(self._names.values())

    @property
    def input_multiple(self) -> int:
        """What the graph scales down to and up from again."""
        return _MULTIPLE

    def _faces(
        self, outputs: Tensors, transforms: Sequence[Transform], threshold: float, limit: int
    ) -> list[Detections]:
        width, height = input_size(transforms)
        cells = (height // _STRIDE, width // _STRIDE)

        def maps(role: str, channels: int) -> Floats:
            return batched(outputs, self._names[role], len(transforms), (channels, *cells))

        heat, scale, offset = maps("heatmap", 1), maps("scale", 2), maps("offset", 2)
        points = maps("landmarks", 2 * _LANDMARKS) if "landmarks" in self._names else None
        faces = []
        for index, transform in enumerate(transforms):
            cell = np.argwhere(heat[index, 0] >= threshold)
            rows, columns = cell.T
            found = _candidates(
                cell,
                heat[index, 0, rows, columns],
                scale[index, :, rows, columns],
                offset[index, :, rows, columns],
                None if points is None else points[index, :, rows, columns],
            )
            faces.append(to_image(suppressed(found, self._config.nms_iou, limit), transform))
        return faces


def _candidates(
    cell: npt.NDArray[np.int64], scores: Floats, scale: Floats, offset: Floats, points: Floats | None
) -> Detections:
    """Boxes and landmarks in pixels of the input; all arguments `[n, …]`, y before x."""
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is dropped as not finite
        size = np.exp(scale) * _STRIDE
        centre = (cell.astype(np.float32) + offset + 0.5) * _STRIDE
        corner = centre - size / 2
        boxes = np.concatenate([corner[:, ::-1], (corner + size)[:, ::-1]], axis=1)
        if points is None:
            return Detections(boxes, scores)
        places = corner[:, np.newaxis] + points.reshape(-1, _LANDMARKS, 2) * size[:, np.newaxis]
    return Detections(boxes, scores, places[..., ::-1])
