"""Heads: raw model outputs to faces. One file a model family and one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from naiad.core.errors import InvalidArgumentError
from naiad.vision.heads.base import Head, HeadConfig
from naiad.vision.heads.blazeface import BlazeFaceHead
from naiad.vision.heads.boxes import BoxesHead
from naiad.vision.heads.centerface import CenterFaceHead
from naiad.vision.heads.mogface import MogFaceHead
from naiad.vision.heads.mtcnn import MtcnnHead
from naiad.vision.heads.retinaface import RetinaFaceHead
from naiad.vision.heads.scrfd import ScrfdHead
from naiad.vision.heads.ultraface import UltraFaceHead
from naiad.vision.heads.yolo import YoloHead
from naiad.vision.heads.yolov5_face import YoloV5FaceHead
from naiad.vision.heads.yolov8_face import YoloV8FaceHead
from naiad.vision.heads.yunet import YuNetHead

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from naiad.config.model_config import TensorConfig
    from naiad.config.vision_config import VisionConfig

__all__ = ["HEADS", "Head", "HeadConfig", "make_head"]

HEADS: Mapping[str, Callable[[HeadConfig], Head]] = {
    "blazeface": BlazeFaceHead,
    "boxes": BoxesHead,
    "centerface": CenterFaceHead,
    "mogface": MogFaceHead,
    "mtcnn": MtcnnHead,
    "retinaface": RetinaFaceHead,
    "scrfd": ScrfdHead,
    "ultraface": UltraFaceHead,
    "yolo": YoloHead,
    "yolov5_face": YoloV5FaceHead,
    "yolov8_face": YoloV8FaceHead,
    "yunet": YuNetHead,
}
"""Values of `naiad.head` and the class that each stands for."""


def make_head(config: VisionConfig, inputs: Sequence[TensorConfig], outputs: Sequence[TensorConfig]) -> Head:
    """The head that a detector's config asks for, checked against the model's outputs.

    Raises:
        InvalidArgumentError: not a detector, unknown head, or outputs that the head cannot read; names the
            key, what is needed and what the model has.
    """
    if config.detect is None:
        raise InvalidArgumentError(f"naiad.task is '{config.task.value}': only a detector has a head")
    name = config.detect.head
    if name not in HEADS:
        raise InvalidArgumentError(f"naiad.head is '{name}', known heads are {', '.join(sorted(HEADS))}")
    return HEADS[name](HeadConfig(config.detect, config.input, tuple(inputs), tuple(outputs)))
