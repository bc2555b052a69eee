"""Real clips, and what a real detector finds in each of their frames."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from support.vision import make_input

from naiad.config.model_config import TensorConfig
from naiad.config.vision_config import DetectConfig, Task, VisionConfig
from naiad.core.datatypes import DataType
from naiad.vision.detector import Detector

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from naiad.vision.arrays import Pixels
    from naiad.vision.detections import Detections

_SIDE = 320


def frames(assets: Path, name: str) -> Iterator[Pixels]:
    """The frames of a clip of the assets, BGR."""
    video = cv2.VideoCapture(str(assets / "video" / name))
    while True:
        more, image = video.read()
        if not more:
            return
        yield image


def clip_faces(
    assets: Path, name: str, *, start: int = 0, stop: int | None = None, every: int = 1
) -> Iterator[tuple[Pixels, Detections]]:
    """Frames of a clip and the faces that YuNet finds at 320x320, score 0.5."""
    session, detector = _yunet(assets)
    for image in islice(frames(assets, name), start, stop, every):
        tensor, transform = detector.preprocessor(image)
        outputs = session.run(list(detector.output_names), {"input": tensor[np.newaxis]})
        named = dict(zip(detector.output_names, outputs, strict=True))
        yield image, detector.head.decode(named, [transform])[0]


@lru_cache(maxsize=1)
def _yunet(assets: Path) -> tuple[Any, Detector]:
    session = onnx_session(assets / "models" / f"yunet_n_{_SIDE}_{_SIDE}.onnx")
    inputs, outputs = (
        [TensorConfig(value.name, DataType.FP32, tuple(value.shape[1:])) for value in values]
        for values in (session.get_inputs(), session.get_outputs())
    )
    detect = DetectConfig("yunet", 0.5, 0.45, 1000)
    config = VisionConfig(Task.DETECT, make_input(width=_SIDE, height=_SIDE), detect)
    return session, Detector(config, inputs, outputs)


def onnx_session(path: Path) -> Any:
    """A session of one thread."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
