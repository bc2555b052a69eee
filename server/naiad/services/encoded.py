"""Requests of Triton's protocol that carry whole image files where a vision model takes numbers.

A model whose config says `naiad.accepts: encoded` takes its image input as a BYTES tensor, too. What such a
request asks for is read here; `admitted_pictures.py` answers it.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from naiad.config.vision_config import Task
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.services.contents import bind_contents, bytes_array
from naiad.services.conversion import check_declared, is_heavy_request, request_prefix
from naiad.services.off_loop import off_loop

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tritonclient.grpc import service_pb2 as pb

    from naiad.config.model_config import ModelConfig
    from naiad.core.tensors import Array, Parameter
    from naiad.services.contents import Content, SharedMemory
    from naiad.services.parameters import RequestParameters
    from naiad.vision.detections import Detections

BOXES, SCORES, LANDMARKS, LABELS, IMAGE = (
    "naiad_boxes",
    "naiad_scores",
    "naiad_landmarks",
    "naiad_labels",
    "naiad_image",
)
FACE_OUTPUTS: Mapping[str, DataType] = {
    BOXES: DataType.FP32,
    SCORES: DataType.FP32,
    LANDMARKS: DataType.FP32,
    LABELS: DataType.INT32,
    IMAGE: DataType.INT32,
}
"""What a detector answers to image files beside its graph's own outputs; F faces of all pictures in a row."""

SCORE_THRESHOLD = "naiad_score_threshold"
MAX_FACES = "naiad_max_faces"
_OPTIONS = (SCORE_THRESHOLD, MAX_FACES)

MAX_QUOTED_DIMS = 8
"""Dims of a wrong shape that a refusal quotes."""


@dataclass(frozen=True, slots=True)
class EncodedRequest:
    """What a request with image files asks for.

    `graph_outputs` are the graph's own outputs that are answered, None for all; `face_outputs` those of
    `FACE_OUTPUTS`, None for all that the head gives and empty for no faces.
    """

    files: list[bytes]
    graph_outputs: tuple[str, ...] | None
    face_outputs: tuple[str, ...] | None
    score_threshold: float | None
    max_faces: int | None
    parameters: RequestParameters
    custom: Mapping[str, Parameter] | None
    deadline_ns: int | None


def is_encoded(message: pb.ModelInferRequest, config: ModelConfig) -> bool:
    """Whether the request brings image files to a model that takes them."""
    vision = config.vision
    if vision is None or not vision.accepts_encoded or len(message.inputs) != 1:
        return False
    [tensor] = message.inputs
    return bool(tensor.datatype == DataType.BYTES.value and tensor.name == vision.input.tensor)


async def read_encoded(
    message: pb.ModelInferRequest,
    data: Sequence[Content | None] | None,
    config: ModelConfig,
    parameters: RequestParameters,
    regions: SharedMemory,
    *,
    deadline_ns: int | None,
) -> EncodedRequest:
    """What a request asks for that `is_encoded`.

    Args:
        message: the request.
        data: what came beside it; see `bind_contents`.
        config: of the version that will answer.
        parameters: the message's, read already.
        regions: the registered shared memory.
        deadline_ns: the caller's deadline on the monotonic clock.

    Raises:
        InvalidArgumentError: a shape, an output or a parameter is wrong.
        NaiadError: as `bind_contents`.
    """
    if parameters.sequence_id:
        # Pictures are decoded side by side, and a sequence must be seen in its order.
        raise InvalidArgumentError(
            f"sequence_id is {parameters.sequence_id!r}: a request with image files belongs to no sequence"
        )
    added = tuple(FACE_OUTPUTS) if _is_detector(config) else ()
    names = check_declared(message, config, added=added)
    graph, faces = _split(names, added)
    threshold, limit = _options(parameters)
    _check_asked(message, (threshold, limit), faces=faces != ())
    shape = _shape(message, config)
    with ExitStack() as leases:
        [content] = bind_contents(message, data, regions, leases)
        name, prefix = message.inputs[0].name, request_prefix(message)
        read = partial(bytes_array, content, shape, name=name, model=config.name, prefix=prefix)
        array = await off_loop(read) if is_heavy_request(message, [content]) else read()
    custom = {key: value for key, value in (parameters.custom or {}).items() if key not in _OPTIONS}
    return EncodedRequest(
        files=array.reshape(-1).tolist(),
        graph_outputs=graph,
        face_outputs=faces,
        score_threshold=threshold,
        max_faces=limit,
        parameters=parameters,
        custom=custom or None,
        deadline_ns=deadline_ns,
    )


def face_arrays(found: Sequence[Detections], wanted: Sequence[str] | None) -> dict[str, Array]:
    """The faces of all pictures as outputs, picture after picture.

    Args:
        found: the faces of each picture.
        wanted: names of `FACE_OUTPUTS`, or None for all that there are.

    Raises:
        InvalidArgumentError: the model's head does not give one that is wanted.
    """
    arrays: dict[str, Array] = {
        BOXES: np.concatenate([each.boxes for each in found]),
        SCORES: np.concatenate([each.scores for each in found]),
        IMAGE: np.repeat(np.arange(len(found), dtype=np.int32), [len(each) for each in found]),
    }
    landmarks = [each.landmarks for each in found if each.landmarks is not None]
    if len(landmarks) == len(found):
        arrays[LANDMARKS] = np.concatenate(landmarks)
    labels = [each.labels for each in found if each.labels is not None]
    if len(labels) == len(found):
        arrays[LABELS] = np.concatenate(labels)
    for name in wanted or ():
        if name not in arrays:
            what = name.removeprefix("naiad_")
            raise InvalidArgumentError(f"output '{name}' was asked for, and the model's head gives no {what}")
    names = arrays if wanted is None else wanted
    return {name: np.ascontiguousarray(arrays[name], FACE_OUTPUTS[name].numpy) for name in names}


def _is_detector(config: ModelConfig) -> bool:
    return config.vision is not None and config.vision.task is Task.DETECT


def _split(
    names: tuple[str, ...] | None, added: Sequence[str]
) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """The graph's outputs and those of the faces; a detector that is asked for none tells the faces alone."""
    if names is None:
        return ((), None) if added else (None, ())
    return tuple(name for name in names if name not in added), tuple(name for name in names if name in added)


def _options(parameters: RequestParameters) -> tuple[float | None, int | None]:
    """Score threshold and number of faces that the request's parameters ask for."""
    custom = parameters.custom or {}
    threshold = _number(custom.get(SCORE_THRESHOLD))
    if threshold is not None and not 0 <= threshold <= 1:  # and NaN is not
        raise _bad_parameter(SCORE_THRESHOLD, custom, "a number from 0 to 1")
    limit = _number(custom.get(MAX_FACES))
    if limit is not None and not (limit >= 0 and limit.is_integer()):
        raise _bad_parameter(MAX_FACES, custom, "a whole number, at least 0")
    return threshold, None if limit is None else int(limit)


def _number(value: Parameter | None) -> float | None:
    """The number, also from a text: older clients send no others; NaN for what is none."""
    if value is None:
        return None
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (ValueError, OverflowError):
        return math.nan


def _bad_parameter(key: str, custom: Mapping[str, Parameter], expected: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"parameter '{key}' is {custom[key]!r}: expected {expected}")


def _check_asked(message: pb.ModelInferRequest, options: Sequence[float | None], *, faces: bool) -> None:
    """Refuse what would be passed over in silence."""
    if not faces and any(option is not None for option in options):
        raise InvalidArgumentError(
            f"parameters '{SCORE_THRESHOLD}' and '{MAX_FACES}' are for the faces that a detector finds, and "
            f"the request to model '{message.model_name}' asks for none"
        )
    for output in message.outputs:
        if output.name in FACE_OUTPUTS and "classification" in output.parameters:
            raise InvalidArgumentError(
                f"output '{output.name}' cannot be asked for as classes: ask for '{LABELS}' instead"
            )


def _shape(message: pb.ModelInferRequest, config: ModelConfig) -> tuple[int, ...]:
    """The shape of the image files, checked.

    Raises:
        InvalidArgumentError: it holds no pictures, or more than a batch does.
    """
    [tensor] = message.inputs
    shape, prefix = tuple(tensor.shape[:MAX_QUOTED_DIMS]), request_prefix(message)
    batched = config.max_batch_size > 0
    if not (shape == (1,) or (batched and len(shape) in (1, 2) and shape[1:] in ((), (1,)))):
        given = ",".join(map(str, shape)) + ",..." * (len(tensor.shape) > MAX_QUOTED_DIMS)
        raise InvalidArgumentError(
            f"{prefix}unexpected shape for input '{tensor.name}' for model '{config.name}'. Expected "
            f"{'[-1] or [-1,1]' if batched else '[1]'} for image files, got [{given}]"
        )
    if shape[0] < 1:
        raise InvalidArgumentError(
            f"{prefix}inference request batch-size must be >= 1 for '{config.name}', got {shape[0]}"
        )
    if batched and shape[0] > config.max_batch_size:
        raise InvalidArgumentError(
            f"{prefix}{shape[0]} pictures in input '{tensor.name}': inference request batch-size must be <= "
            f"{config.max_batch_size} for '{config.name}'"
        )
    return shape
