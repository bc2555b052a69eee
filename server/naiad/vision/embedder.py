"""Faces to embedding vectors: crop, input slot, output to vectors. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from naiad.config.vision_config import Alignment
from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.vision.alignment import align, l2_normalize
from naiad.vision.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from naiad.config.model_config import TensorConfig
    from naiad.config.vision_config import VisionConfig
    from naiad.core.tensors import Tensors
    from naiad.vision.arrays import Floats, Pixels


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

    def crop(self, image: Pixels, landmarks: npt.ArrayLike | None) -> Pixels:
        """The part of a picture that is embedded.

        Args:
            image: uint8 `[H, W, 3]`, BGR.
            landmarks: `[5, 2]` of one face in pixels of `image`, or None when the image is the crop already.

        Returns:
            uint8 BGR, for `preprocessor.write`.

        Raises:
            InvalidArgumentError: landmarks that give no alignment or that the model has no use for, or an
                image that cannot be an aligned crop because of its size.
        """
        if self._config.alignment is Alignment.NONE:
            if landmarks is not None:
                raise InvalidArgumentError("landmarks were given and naiad.embed.alignment is 'none'")
            return image
        if landmarks is not None:
            return align(image, landmarks, self._size)
        height, width = image.shape[:2]
        if (width, height) != (self._size, self._size):
            raise InvalidArgumentError(
                f"image is {width}x{height} pixels and came without landmarks: "
                f"an aligned crop has {self._size}x{self._size}"
            )
        return image

    def vectors(self, outputs: Tensors) -> Floats:
        """One vector a row, float32 `[N, d]`, of length 1 where the config says so.

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
        return l2_normalize(vectors) if self._config.normalize else vectors
