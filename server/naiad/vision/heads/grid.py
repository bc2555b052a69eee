"""Steps that heads over grids of cells share: where cells lie, which of them hold faces. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.vision.heads.base import float_output, output_suits, suppressed, to_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from naiad.config.model_config import TensorConfig
    from naiad.core.tensors import Tensors
    from naiad.vision.arrays import Floats
    from naiad.vision.detections import Detections
    from naiad.vision.heads.base import HeadConfig
    from naiad.vision.transform import Transform

INPUT_SIZES = 16
"""Input sizes whose cells are kept: a model of free size may see a few, one of fixed size sees one."""


class Kept(NamedTuple):
    """The cells of a batch that may hold a face: the picture and the row of each, int64 `[m]`."""

    picture: npt.NDArray[np.intp]
    row: npt.NDArray[np.intp]


def cells(width: int, height: int, stride: int, anchors: int = 1) -> Floats:
    """Left and top edge of each cell in pixels of the input, float32 `[K, 2]`, read-only.

    Row by row, each cell `anchors` times in a row; a side that the stride does not divide has one cell more.
    """
    rows, columns = np.mgrid[: math.ceil(height / stride), : math.ceil(width / stride)]
    corners = np.stack([columns, rows], axis=-1).reshape(-1, 2) * stride
    result = np.repeat(corners, anchors, axis=0).astype(np.float32)
    result.flags.writeable = False
    return result


def cell_count(width: int, height: int, strides: Sequence[int]) -> int:
    """How many cells an input of that many pixels has over all strides."""
    return sum(math.ceil(width / stride) * math.ceil(height / stride) for stride in strides)


def input_size(transforms: Sequence[Transform]) -> tuple[int, int]:
    """Width and height of the input that all pictures of a batch share.

    Raises:
        InternalError: they differ.
    """
    sizes = {(transform.input_width, transform.input_height) for transform in transforms}
    if len(sizes) != 1:
        raise InternalError(f"one batch cannot hold inputs of several sizes: {sorted(sizes)}")
    return sizes.pop()


def fixed_size(config: HeadConfig) -> tuple[int, int] | None:
    """Width and height where the graph itself fixes them, so its outputs' sizes must agree; else None."""
    size = (config.input.width, config.input.height)
    for tensor in config.inputs:
        if tensor.name == config.input.tensor and -1 in tensor.dims[-3:]:
            return None
    return None if size[0] is None or size[1] is None else (size[0], size[1])


def check_sides(config: HeadConfig, multiple: int) -> None:
    """See that the input's sides, where the config fixes them, are multiples of the largest stride.

    Raises:
        InvalidArgumentError: one is not.
    """
    width, height = config.input.width, config.input.height
    if width is not None and height is not None and (width % multiple or height % multiple):
        raise InvalidArgumentError(
            f"naiad.head '{config.detect.head}' needs sides that are multiples of {multiple}, "
            f"naiad.input.size is {width}x{height}"
        )


def outputs_like(config: HeadConfig, dims: tuple[int, ...]) -> list[TensorConfig]:
    """The outputs of numbers whose last dimensions are `dims`, and that say so.

    -1 in `dims` stands for any size. Before them there may be a batch of one and nothing else; an output that
    leaves open a size which `dims` names could be anything, so it is not among them.
    """
    found = []
    for output in config.outputs:
        before, tail = output.dims[: -len(dims)], output.dims[-len(dims) :]
        if before not in {(), (1,), (-1,)} or not output_suits(output, dims):
            continue
        if all(actual == wanted for actual, wanted in zip(tail, dims, strict=True) if wanted != -1):
            found.append(output)
    return found


def batched(outputs: Tensors, name: str, batch: int, last: tuple[int, ...]) -> Floats:
    """One output as float32 `[batch, *last]`; for a batch of one the model may leave out that dimension.

    Raises:
        InternalError: it is missing or of another shape.
    """
    array = outputs.get(name)
    if array is not None and batch == 1 and array.ndim == len(last):
        outputs = {name: array[np.newaxis]}
    return float_output(outputs, name, batch, last)


def check_map(rows: int, columns: int, size: tuple[int, int], stride: int) -> None:
    """See that a map has the cells of its stride.

    Raises:
        InternalError: it has others; names both.
    """
    width, height = size
    if (columns, rows) != (width // stride, height // stride):
        raise InternalError(
            f"the model gave a map of {columns}x{rows} cells, an input of {width}x{height} has "
            f"{width // stride}x{height // stride} of stride {stride}"
        )


def where(scores: Floats, threshold: float) -> Kept:
    """The cells whose score `[batch, K]` reaches the threshold; NaN never does."""
    return Kept(*np.nonzero(scores >= threshold))


def faces_of(
    candidates: Detections,
    picture: npt.NDArray[np.intp],
    transforms: Sequence[Transform],
    iou: float,
    limit: int,
) -> list[Detections]:
    """What suppression leaves of each picture's candidates, in pixels of the picture.

    Args:
        candidates: of all pictures of the batch, in pixels of the input.
        picture: int64 `[m]`, the picture that each belongs to.
        transforms: the way back for each picture.
        iou: overlap from which the better one wins.
        limit: at most this many a picture.
    """
    faces = []
    for index, transform in enumerate(transforms):
        own = candidates.take(np.flatnonzero(picture == index))
        faces.append(to_image(suppressed(own, iou, limit), transform))
    return faces


def overflow() -> np.errstate:
    """A context in which numbers may overflow without a warning: what is not finite is dropped afterwards."""
    return np.errstate(over="ignore", invalid="ignore")


def corners_of(centres: Floats, sizes: Floats) -> Floats:
    """Boxes `[m, 4]` (x1, y1, x2, y2) from centres and sizes `[m, 2]`."""
    with overflow():
        half = sizes / 2
        return np.concatenate([centres - half, centres + half], axis=1)


def sigmoid(logits: Floats) -> Floats:
    """The logistic function, float32; saturates without a warning."""
    with overflow():
        result: Floats = (1 / (1 + np.exp(-logits))).astype(np.float32, copy=False)
        return result


def logit_below(probability: float) -> float:
    """A logit no larger than any whose sigmoid reaches `probability`: cheap to compare first."""
    if probability <= 0:
        return -math.inf
    # The added 1e-6 and the margin cover that float32 rounds a sigmoid near 1 up to 1.
    return math.log(probability / (1 - probability + 1e-6)) - 1e-3
