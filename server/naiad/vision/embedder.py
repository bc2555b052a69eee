"""Faces to embedding vectors: crop, input slot, output to vectors. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from naiad.config.vision_config import Alignment
from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.vision.alignment import l2_normalize, similarity_transform, warp
from naiad.vision.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from naiad.config.model_config import TensorConfig
    from naiad.config.vision_config import VisionConfig
    from naiad.core.tensors import Tensors
    from naiad.vision.arrays import Floats, Pixels


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """The part of a picture that is embedded, not yet cut out.

    `image` is uint8 `[H, W, 3]`, BGR. With a `matrix`, float64 `[2, 3]`, the part is a square of `size`
    pixels that the matrix maps it to; without one it is the whole of `image`.
    """

    image: Pixels
    matrix: npt.NDArray[np.float64] | None = None
    size: int = 0

    def pixels(self) -> Pixels:
        """The part itself, uint8 BGR, for `Preprocessor.write`."""
        return self.image if self.matrix is None else warp(self.image, self.matrix, self.size)


class Embedder:
    """What happens before and after one embedding model. Safe to call from several threads at once."""

    def __init__(
        self, config: VisionConfig, inputs: Sequence[TensorConfig], outputs: Sequence[TensorConfig]
    ) -> None:
        """Check the config against the model.

        Raises:
            InvalidArgumentError: not an embedder, no such tensor, or an input that no crop fits.
        """
        if config.embed is None:
            raise InvalidArgumentError(f"naiad.task is '{config.task.value}': only an embedder gives vectors")
        self._config = config.embed
        self.preprocessor = Preprocessor.for_inputs(config.input, inputs)
        names = [output.name for output in outputs]
        if config.embed.tensor not in names:
            raise InvalidArgumentError(
                f"naiad.embed is for output '{config.embed.tensor}', "
                f"the model's outputs are {', '.join(names)}"
            )
        width, height = config.input.width, config.input.height
        if config.embed.alignment is Alignment.ARCFACE and (width is None or width != height):
            raise InvalidArgumentError(
                f"naiad.embed.alignment 'arcface' needs a square input of fixed size, naiad.input.size is "
                f"{width or 'any'}x{height or 'any'}"
            )
        self._size = width or 0

    @property
    def output_names(self) -> tuple[str, ...]:
        """The output that `vectors` reads."""
        return (self._config.tensor,)

    @property
    def aligns(self) -> bool:
        """Whether faces are aligned by five landmarks; else pictures of faces are taken as they are."""
        return self._config.alignment is not Alignment.NONE

    def crop(self, image: Pixels, landmarks: npt.ArrayLike | None) -> Pixels:
        """The part of a picture that is embedded, uint8 BGR, for `preprocessor.write`; see `plan_crop`."""
        return self.plan_crop(image, landmarks).pixels()

    def plan_crop(self, image: Pixels, landmarks: npt.ArrayLike | None) -> Crop:
        """Where the part of a picture lies that is embedded; every check is made here.

        Args:
            image: uint8 `[H, W, 3]`, BGR.
            landmarks: `[5, 2]` of one face in pixels of `image`, or None when the image is the crop already.

        Raises:
            InvalidArgumentError: landmarks that give no alignment or that the model has no use for, or an
                image that cannot be an aligned crop because of its size.
        """
        if not self.aligns:
            if landmarks is not None:
                raise InvalidArgumentError("landmarks were given and naiad.embed.alignment is 'none'")
            return Crop(image)
        if landmarks is not None:
            return Crop(image, similarity_transform(landmarks, self._size), self._size)
        height, width = image.shape[:2]
        if (width, height) != (self._size, self._size):
            raise InvalidArgumentError(
                f"image is {width}x{height} pixels and came without landmarks: "
                f"an aligned crop has {self._size}x{self._size}"
            )
        return Crop(image)

    def plan_box(self, image: Pixels, box: Floats) -> Crop:
        """A found face for a model that does not align: its box, as far as it lies within the picture.

        Args:
            image: uint8 `[H, W, 3]`, BGR.
            box: x1, y1, x2, y2 in pixels of `image`. At least one pixel is taken, wherever it lies.
        """
        height, width = image.shape[:2]
        left, top = np.clip(np.floor(box[:2]), 0, (width - 1, height - 1)).astype(int)
        right, bottom = np.clip(np.ceil(box[2:]), (left + 1, top + 1), (width, height)).astype(int)
        return Crop(image[top:bottom, left:right])

    def vectors(self, outputs: Tensors, *, normalize: bool | None = None) -> Floats:
        """One vector a row, float32 `[N, d]`.

        Args:
            outputs: the model's.
            normalize: whether they are scaled to length 1; None leaves it to the config.

        Raises:
            InternalError: the model gave no such output, or one without a batch dimension.
        """
        array = outputs.get(self._config.tensor)
        if array is None or array.ndim < 2:
            found = "nothing" if array is None else f"shape {list(array.shape)}"
            raise InternalError(
                f"output '{self._config.tensor}' should hold one vector a face, the model gave {found}"
            )
        vectors = array.reshape(len(array), -1).astype(np.float32, copy=False)
        wanted = self._config.normalize if normalize is None else normalize
        return l2_normalize(vectors) if wanted else vectors
