"""What every head offers, and the steps that heads share. Pure."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from naiad.core.datatypes import DataType
from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.vision.detections import Detections
from naiad.vision.nms import best_indices

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from naiad.config.model_config import TensorConfig
    from naiad.config.vision_config import DetectConfig, InputConfig
    from naiad.core.tensors import Tensors
    from naiad.vision.arrays import Floats
    from naiad.vision.transform import Transform


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """All that a head is built from."""

    detect: DetectConfig
    input: InputConfig
    inputs: tuple[TensorConfig, ...]
    outputs: tuple[TensorConfig, ...]


class Head(Protocol):
    """Turns the raw outputs of one model into faces. Safe to call from several threads at once."""

    @property
    def output_names(self) -> tuple[str, ...]:
        """The outputs that `decode` reads; no others need be computed."""
        ...

    @property
    def input_multiple(self) -> int:
        """The sides of the model's input must be multiples of this."""
        ...

    def decode(
        self,
        outputs: Tensors,
        transforms: Sequence[Transform],
        *,
        score_threshold: float | None = None,
        max_faces: int | None = None,
    ) -> list[Detections]:
        """The faces of each picture of a batch, in pixels of the picture, the best first.

        Args:
            outputs: the arrays of `output_names`, each starting with the batch dimension.
            transforms: what pre-processing returned for each picture of the batch, in order.
            score_threshold: 0..1, faces below are left out; None means the config's.
            max_faces: at most this many a picture; None or 0 means the config's limit, which also bounds it.

        Raises:
            InvalidArgumentError: an option is out of range.
            InternalError: the outputs are not what the model's config announced.
        """
        ...


class DecodingHead(ABC):
    """A head that finds the faces of a batch once the options are known."""

    _config: DetectConfig

    def decode(
        self,
        outputs: Tensors,
        transforms: Sequence[Transform],
        *,
        score_threshold: float | None = None,
        max_faces: int | None = None,
    ) -> list[Detections]:
        """The faces of each picture; see `Head.decode`."""
        threshold, limit = resolve_options(self._config, score_threshold, max_faces)
        return self._faces(outputs, transforms, threshold, limit) if transforms else []

    @abstractmethod
    def _faces(
        self, outputs: Tensors, transforms: Sequence[Transform], threshold: float, limit: int
    ) -> list[Detections]:
        """The faces of one picture or more, at most `limit` each, with scores of at least `threshold`."""


def resolve_options(
    config: DetectConfig, score_threshold: float | None, max_faces: int | None
) -> tuple[float, int]:
    """The threshold and the count to use.

    Raises:
        InvalidArgumentError: an option is out of range.
    """
    threshold = config.score_threshold if score_threshold is None else score_threshold
    if not 0 <= threshold <= 1:
        raise InvalidArgumentError(f"score_threshold is {threshold}, it must be between 0 and 1")
    limit = max_faces or config.max_faces
    if limit < 0:
        raise InvalidArgumentError(f"max_faces is {limit}, it must not be negative")
    return threshold, min(limit, config.max_faces)


def check_outputs(config: HeadConfig, needed: Mapping[str, tuple[int, ...]]) -> None:
    """See that the model has the outputs a head needs.

    Args:
        config: the head's.
        needed: each output's last dimensions; -1 stands for any size.

    Raises:
        InvalidArgumentError: an output is missing, or has other dimensions or a type that is no float.
    """
    outputs = {output.name: output for output in config.outputs}
    for name, dims in needed.items():
        if name not in outputs or not output_suits(outputs[name], dims):
            raise unsuitable(config, f"an output '{name}' of numbers with dims {_dims_text(dims)}")


def unsuitable(config: HeadConfig, needs: str) -> InvalidArgumentError:
    """The error of a model whose outputs are not what the head `needs`; says what the model has."""
    return InvalidArgumentError(
        f"naiad.head '{config.detect.head}' needs {needs}, the model has {_outputs_text(config.outputs)}"
    )


def output_suits(output: TensorConfig, dims: tuple[int, ...]) -> bool:
    """Whether an output holds numbers and its last dimensions are `dims`; -1 stands for any size."""
    if output.datatype not in {DataType.FP32, DataType.FP16, DataType.FP64, DataType.INT32, DataType.INT64}:
        return False
    if len(output.dims) < len(dims):
        return False
    tail = output.dims[len(output.dims) - len(dims) :]
    return all(-1 in {actual, wanted} or actual == wanted for actual, wanted in zip(tail, dims, strict=True))


def _dims_text(dims: Sequence[int]) -> str:
    return "[" + ", ".join("any" if size == -1 else str(size) for size in dims) + "]"


def _outputs_text(outputs: Sequence[TensorConfig]) -> str:
    texts = (f"'{output.name}' {output.datatype.value} {_dims_text(output.dims)}" for output in outputs)
    return ", ".join(texts) or "none"


def float_output(outputs: Tensors, name: str, batch: int, last: tuple[int, ...]) -> Floats:
    """One output as float32 `[batch, …, *last]`; -1 in `last` stands for any size.

    Raises:
        InternalError: it is missing or of another shape.
    """
    if name not in outputs:
        raise InternalError(f"the model gave no output '{name}'")
    array = outputs[name]
    tail = array.shape[array.ndim - len(last) :]
    if (
        array.ndim != 1 + len(last)
        or len(array) != batch
        or any(wanted not in {-1, actual} for actual, wanted in zip(tail, last, strict=True))
    ):
        raise InternalError(
            f"output '{name}' has shape {list(array.shape)}, {_dims_text((batch, *last))} was expected"
        )
    return array.astype(np.float32, copy=False)


def suppressed(candidates: Detections, iou: float, max_faces: int) -> Detections:
    """What non-maximum suppression leaves of one picture's candidates, at most `max_faces`, the best first.

    Candidates that are no finite box (a model may overflow) are left out; classes do not suppress each other.
    """
    usable = candidates.finite()
    return usable.take(best_indices(usable, iou)[:max_faces])


def to_image(detections: Detections, transform: Transform) -> Detections:
    """Detections of the model's input, moved to the picture; those that overflow there are left out."""
    landmarks = None if detections.landmarks is None else transform.to_image(detections.landmarks)
    boxes = transform.boxes_to_image(detections.boxes)
    return Detections(boxes, detections.scores, landmarks, detections.labels).finite()
