"""Detectors and embedders whose raw outputs tests write themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from support.vision import make_input

from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.config.vision_config import Alignment, DetectConfig, EmbedConfig, Task, VisionConfig
from naiad.core.datatypes import DataType
from naiad.vision.detector import Detector
from naiad.vision.embedder import Embedder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad.core.tensors import Array

SIDE = 320
SLOTS = 8
"""Faces that an answer of `detector` has room for."""
PICTURES = "input"
POINTS = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
"""A face's landmarks as shares of its box: its eyes are 0.4 of its width apart."""


class FoundFace(NamedTuple):
    """One face of a made-up answer; a square with its landmarks where `POINTS` says, moved by `landmarks_off`."""

    left: float
    top: float
    side: float = 40.0
    score: float = 0.9
    landmarks_off: float = 0.0


def detector(threshold: float = 0.5, batch: int = 8) -> tuple[Detector, ModelConfig]:
    """A detector that gives finished faces (head `mtcnn`)."""
    outputs = (
        TensorConfig("boxes", DataType.FP32, (SLOTS, 4)),
        TensorConfig("scores", DataType.FP32, (SLOTS,)),
        TensorConfig("landmarks", DataType.FP32, (SLOTS, 5, 2)),
        TensorConfig("count", DataType.INT32, (1,)),
    )
    config = make_input(width=SIDE, height=SIDE)
    vision = VisionConfig(Task.DETECT, config, DetectConfig("mtcnn", threshold, 0.45, 100))
    inputs = (TensorConfig(PICTURES, DataType.FP32, (3, SIDE, SIDE)),)
    return Detector(vision, inputs, outputs), ModelConfig("m", batch, inputs, outputs, vision=vision)


def pictures(count: int) -> dict[str, Array]:
    """The inputs of a request with that many pictures."""
    return {PICTURES: np.zeros((count, 3, SIDE, SIDE), np.float32)}


def answer(*found: Sequence[FoundFace]) -> dict[str, Array]:
    """What `detector` answers when these are the faces of each picture."""
    rows = len(found)
    boxes = np.zeros((rows, SLOTS, 4), np.float32)
    scores, points = np.zeros((rows, SLOTS), np.float32), np.zeros((rows, SLOTS, 5, 2), np.float32)
    for row, faces in enumerate(found):
        for slot, face in enumerate(sorted(faces, key=lambda face: -face.score)):
            corner = np.array([face.left, face.top])
            boxes[row, slot] = [*corner, *(corner + face.side)]
            scores[row, slot] = face.score
            points[row, slot] = corner + np.array(POINTS) * face.side + [face.landmarks_off, 0]
    counts = np.array([[len(faces)] for faces in found], np.int32)
    return {"boxes": boxes, "scores": scores, "landmarks": points, "count": counts}


def embedder(dims: int, batch: int = 64) -> tuple[Embedder, ModelConfig]:
    """An embedder of crops with vectors of `dims` numbers."""
    config = make_input(width=112, height=112)
    vision = VisionConfig(
        Task.EMBED, config, embed=EmbedConfig(Alignment.NONE, normalize=True, tensor="vector")
    )
    inputs = (TensorConfig(PICTURES, DataType.FP32, (3, 112, 112)),)
    outputs = (TensorConfig("vector", DataType.FP32, (dims,)),)
    return Embedder(vision, inputs, outputs), ModelConfig("e", batch, inputs, outputs, vision=vision)


def plain_model(batch: int = 8, **datatypes: DataType) -> ModelConfig:
    """A model without a task, its outputs of these datatypes and any size."""
    outputs = tuple(TensorConfig(name, datatype, (-1,)) for name, datatype in datatypes.items())
    return ModelConfig("p", batch, (TensorConfig("x", DataType.FP32, (-1,)),), outputs)


def vectors(*rows: Any) -> dict[str, Array]:
    """What `embedder` answers."""
    return {"vector": np.array(rows, np.float32)}
