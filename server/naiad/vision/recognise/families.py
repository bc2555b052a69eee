"""How the published files of each detector family want their input, as `naiad.` parameters. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from naiad.core.datatypes import DataType
from naiad.core.tensors import WILDCARD
from naiad.vision.recognise.proposal import Block, GraphFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from naiad.config.model_config import TensorConfig

FREE_SIZE = "640x640"
"""Proposed for graphs that take any size: of one size, pictures share batches."""
_PLAIN_KEYS = ("naiad.input.mean", "naiad.input.scale")


class Family(NamedTuple):
    """The parameters beside task and head, and whose files want them so."""

    parameters: Mapping[str, str]
    source: str


def _input(color: str, resize: str = "", mean: str = "", scale: str = "", pad: str = "") -> dict[str, str]:
    values = {"resize": resize, "color": color, "mean": mean, "scale": scale, "pad": pad}
    return {f"naiad.input.{key}": value for key, value in values.items() if value}


def _detect(score: str = "", iou: str = "") -> dict[str, str]:
    values = {"score_threshold": score, "nms_iou": iou}
    return {f"naiad.detect.{key}": value for key, value in values.items() if value}


_TO_UNIT = "0.00392157"  # 1 / 255
FAMILIES: Mapping[str, Family] = {
    "yunet": Family(_input("bgr"), "libfacedetection's and OpenCV Zoo's"),
    "mtcnn": Family(_input("rgb"), "`naiad demo build`'s"),
    "scrfd": Family(_input("rgb", mean="127.5", scale="0.0078125") | _detect(iou="0.4"), "InsightFace's"),
    "retinaface": Family(
        _input("bgr", mean="104,117,123") | _detect("0.6", "0.4"), "Pytorch_Retinaface's and its heirs'"
    ),
    "centerface": Family(_input("rgb", "stretch") | _detect(iou="0.3"), "Star-Clouds/CenterFace's"),
    "blazeface": Family(
        _input("rgb", "letterbox_center", "127.5", "0.00784314") | _detect("0.75", "0.3"), "MediaPipe's"
    ),
    "ultraface": Family(
        _input("rgb", "stretch", "127", "0.0078125") | _detect("0.7", "0.3"),
        "Ultra-Light-Fast-Generic-Face-Detector-1MB's",
    ),
    "mogface": Family(_input("rgb", mean="104,117,123"), "MogFace's (look at the code that you export with)"),
    "yolov5_face": Family(
        _input("rgb", "letterbox_center", scale=_TO_UNIT, pad="114") | _detect("0.3", "0.5"),
        "deepcam-cn/yolov5-face's",
    ),
    "yolov8_face": Family(
        _input("rgb", "letterbox_center", scale=_TO_UNIT) | _detect("0.45", "0.5"), "YOLOv8-face's"
    ),
    "yolo": Family(
        _input("rgb", "letterbox_center", scale=_TO_UNIT, pad="114") | _detect("0.25"), "Ultralytics'"
    ),
    "boxes": Family(_input("rgb", "letterbox_center", scale=_TO_UNIT, pad="114"), "Ultralytics' end-to-end"),
}
"""By `naiad.head`, in the order in which equally likely ones are named."""


def detector_block(head: str, tensor: TensorConfig, facts: GraphFacts) -> Block:
    """The block that a model of that family would want."""
    family = FAMILIES[head]
    is_free = _is_free(tensor) and head != "mtcnn"
    size = {"naiad.input.size": FREE_SIZE, "naiad.input.resize": "letterbox"} if is_free else {}
    parameters = {"naiad.task": "detect", "naiad.head": head, **size, **family.parameters}
    notes = [f"the graph does not tell colour, mean and scale: these are those of {family.source} files"]
    if plain_pixels(tensor, facts):
        parameters = {key: value for key, value in parameters.items() if key not in _PLAIN_KEYS}
        notes = [
            f"the graph takes plain pixels; it does not tell their colour: that of {family.source} files"
        ]
    if head == "boxes":
        notes.append('rows in fractions of the input need naiad.detect.coordinates "fractions"')
    if is_free:
        notes.append(
            f"the graph takes any size: {FREE_SIZE} is a common one, and pictures of one size share batches"
        )
    return Block(tuple(parameters.items()), tuple(notes))


def plain_pixels(tensor: TensorConfig, facts: GraphFacts) -> bool:
    """Whether the graph takes pixels as they are: bytes, or it brings them to its range itself."""
    return facts.normalises or tensor.datatype is DataType.UINT8


def _is_free(tensor: TensorConfig) -> bool:
    """Whether both sides are open; the channels are not."""
    return tensor.dims[-3:].count(WILDCARD) == 2
