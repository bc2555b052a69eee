"""Real SCRFD, RetinaFace and YOLO face models on real photos: the faces that their own projects' code finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from support.heads import RealDetector, overlap
from support.vision import make_input

from naiad.config.vision_config import ColorOrder
from naiad.vision.images import ImageLimits, decode_image
from naiad.vision.transform import Transform

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.vision.arrays import Floats, Pixels
    from naiad.vision.detections import Detections

pytestmark = pytest.mark.assets

PHOTOS = (
    "obama_a.jpg",
    "two_people.jpg",
    "office_group.jpg",
    "friends_steps.jpg",
    "man_stage.jpg",
    "newton.png",
    "lin_manuel_rgba.png",
    "noface_cartoon.jpg",
    "noface_landscape_exif6.jpg",
)
"""One of each difficulty; crowds are left out because faces near the threshold flip."""
SIDE = 640
RESTRICTED = "optional/nonpermissive/"
SCRFD = {"color": ColorOrder.RGB, "mean": (127.5,) * 3, "scale": (1 / 128,) * 3}
RETINAFACE = {"color": ColorOrder.BGR, "mean": (104.0, 117.0, 123.0)}
DETECTORS: dict[str, tuple[str, dict[str, Any]]] = {
    "retinaface_mobilenet025_640.onnx": ("retinaface", RETINAFACE),
    RESTRICTED + "scrfd_2.5g_bnkps_640.onnx": ("scrfd", SCRFD),
    RESTRICTED + "scrfd_500m_kps_dynamic.onnx": ("scrfd", SCRFD),
    RESTRICTED + "yolov5n-0.5-face.onnx": ("yolov5_face", {}),
    RESTRICTED + "yolov8-lite-t-face.onnx": ("yolov8_face", {}),
}
CENTRED = {"yolov5_face": (114, cv2.INTER_LINEAR), "yolov8_face": (0, cv2.INTER_AREA)}
"""Value of the border and interpolation of the projects that put the picture into the middle."""


def detector_of(assets: Path, file: str) -> RealDetector:
    head, settings = DETECTORS[file]
    return RealDetector(assets, file, head, make_input(**({"width": SIDE, "height": SIDE} | settings)))


def centred(image: Pixels, border: int, interpolation: int) -> tuple[Floats, Transform]:
    """The picture in the middle of the input, red first, 0..1."""
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    whole = round if border else int
    sides = (whole(width * scale), whole(height * scale))
    left, top = (SIDE - sides[0]) // 2, (SIDE - sides[1]) // 2
    canvas = np.full((SIDE, SIDE, 3), border, np.uint8)
    canvas[top : top + sides[1], left : left + sides[0]] = cv2.resize(
        image, sides, interpolation=interpolation
    )
    tensor = np.ascontiguousarray(canvas[..., ::-1].transpose(2, 0, 1)[np.newaxis]).astype(np.float32)
    tensor *= np.float32(1 / 255)
    if border:  # YOLOv5's own way back knows of no whole pixels
        way = (scale, scale, (SIDE - width * scale) / 2, (SIDE - height * scale) / 2)
    else:
        way = (sides[0] / width, sides[1] / height, left, top)
    return tensor, Transform(*way, width, height, SIDE, SIDE)


def faces_in(detector: RealDetector, head: str, image: Pixels) -> Detections:
    if head not in CENTRED:
        return detector.faces(image)
    tensor, transform = centred(image, *CENTRED[head])
    (found,) = detector.head.decode(detector.run(tensor), [transform])
    return found


@pytest.mark.parametrize("file", DETECTORS)
def test_faces_are_those_of_the_models_own_project(file: str, assets: Path, limits: ImageLimits) -> None:
    detector, head = detector_of(assets, file), DETECTORS[file][0]
    compared = 0
    for photo in PHOTOS:
        golden = detector.golden["photos"][photo]
        image = decode_image((assets / "images" / photo).read_bytes(), limits)
        found = faces_in(detector, head, image)
        assert len(found) == len(golden["faces"]), photo
        for face in golden["faces"]:
            box = np.array(face["box"], np.float32)
            width = float(box[2] - box[0])
            if width <= 40:
                continue
            overlaps = overlap(box, found.boxes)
            nearest = int(overlaps.argmax())
            assert overlaps[nearest] > 0.95, photo
            assert abs(float(found.scores[nearest]) - face["score"]) < 0.01, photo
            assert found.landmarks is not None
            assert np.abs(found.landmarks[nearest] - face["landmarks"]).max() < 0.03 * width, photo
            compared += 1
    assert compared >= 7


@pytest.mark.parametrize("file", DETECTORS)
def test_the_tensors_that_the_head_reads_are_the_golden_ones(file: str, assets: Path) -> None:
    """The model itself, without a picture or a head: else the test above would blame them for the engine."""
    detector = detector_of(assets, file)
    for check in detector.golden["io_check"]["checks"]:
        count = int(np.prod(check["input_shape"]))
        values = (np.arange(count, dtype=np.uint64) * 2654435761 % 2**32) / 2**32
        low, high = check["input_range"]
        outputs = detector.run((values * (high - low) + low).astype(np.float32).reshape(check["input_shape"]))
        assert set(detector.head.output_names) <= set(outputs)
        for expected in check["outputs"]:
            array = outputs[expected["name"]]
            assert list(array.shape) == expected["shape"]
            np.testing.assert_allclose(array.reshape(-1)[:8], expected["first8"], rtol=1e-3, atol=1e-3)
