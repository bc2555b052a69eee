"""Real models on real photos: decode, pre-process, run and read out as the models' own projects do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.vision import make_input

from naiad.config.model_config import TensorConfig
from naiad.config.vision_config import (
    Alignment,
    ColorOrder,
    DetectConfig,
    EmbedConfig,
    InputConfig,
    Layout,
    Resize,
    Task,
    VisionConfig,
)
from naiad.core.datatypes import DataType
from naiad.vision.embedder import Embedder
from naiad.vision.heads import make_head
from naiad.vision.images import ImageLimits, decode_image, decode_reduced
from naiad.vision.preprocess import Preprocessor

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.core.tensors import Array
    from naiad.vision.arrays import Floats, Pixels
    from naiad.vision.detections import Detections

onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.assets

YUNET = {"color": ColorOrder.BGR, "resize": Resize.LETTERBOX, "mean": (0.0,) * 3, "scale": (1.0,) * 3}
ULTRAFACE = {"color": ColorOrder.RGB, "resize": Resize.STRETCH, "mean": (127.0,) * 3, "scale": (1 / 128,) * 3}
DETECTORS: dict[str, tuple[str, dict[str, Any]]] = {
    "yunet_n_320_320": ("yunet", YUNET | {"width": 320, "height": 320}),
    "yunet_n_640_640": ("yunet", YUNET | {"width": 640, "height": 640}),
    "yunet_s_640_640": ("yunet", YUNET | {"width": 640, "height": 640}),
    "yunet_n_dynamic": ("yunet", YUNET | {"width": None, "height": None, "resize": Resize.NONE}),
    "ultraface_version-RFB-320": ("ultraface", ULTRAFACE | {"width": 320, "height": 240}),
    "ultraface_version-RFB-640": ("ultraface", ULTRAFACE | {"width": 640, "height": 480}),
}
PHOTOS = (
    "obama_a.jpg",
    "two_people.jpg",
    "office_group.jpg",
    "newton.png",
    "lin_manuel_rgba.png",
    "noface_cartoon.jpg",
    "noface_landscape_exif6.jpg",
    "variants/ob_exif6.jpg",
    "variants/ob_cmyk.jpg",
    "variants/ob.webp",
)
"""One of each difficulty; crowds are left out because faces near the threshold flip."""


class Model:
    """A real graph, its tensors as a config would declare them."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = [self._config(value) for value in self._session.get_inputs()]
        self.outputs = [self._config(value) for value in self._session.get_outputs()]

    @staticmethod
    def _config(value: Any) -> TensorConfig:
        dims = tuple(size if isinstance(size, int) else -1 for size in value.shape[1:])
        return TensorConfig(value.name, DataType.FP32, dims)

    def run(self, batch: Array) -> dict[str, Array]:
        names = [output.name for output in self.outputs]
        return dict(zip(names, self._session.run(names, {self.inputs[0].name: batch}), strict=True))


class Detector:
    """The whole way from a picture to its faces."""

    def __init__(self, assets: Path, name: str, **changes: Any) -> None:
        self.golden = json.loads((assets / "golden" / f"{name}.json").read_text())
        self.model = Model(assets / "models" / f"{name}.onnx")
        head, settings = DETECTORS[name]
        tensor = {"tensor": self.model.inputs[0].name, "layout": Layout.NCHW}
        config = make_input(**(tensor | settings | changes))
        detect = DetectConfig(head, self.golden["score_threshold"], self.golden["nms_iou"], 1000)
        self.head = make_head(
            VisionConfig(Task.DETECT, config, detect), self.model.inputs, self.model.outputs
        )
        self.preprocessor = Preprocessor.for_inputs(
            config, self.model.inputs, multiple=self.head.input_multiple
        )

    def faces(self, *images: Pixels) -> list[Detections]:
        tensors, transforms = zip(*(self.preprocessor(image) for image in images), strict=True)
        return self.head.decode(self.model.run(np.stack(tensors)), transforms)


def overlap(box: Floats, boxes: Floats) -> Floats:
    """Intersection over union of one box with each of several."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    result: Floats = common / (areas + np.prod(box[2:] - box[:2]) - common)
    return result


@pytest.mark.parametrize("name", DETECTORS)
def test_faces_are_those_of_the_models_own_project(name: str, assets: Path, limits: ImageLimits) -> None:
    detector = Detector(assets, name)
    for photo in PHOTOS:
        golden = detector.golden["photos"][photo]
        image = decode_image((assets / "images" / photo).read_bytes(), limits)
        assert list(image.shape[1::-1]) == golden["size"], photo
        (found,) = detector.faces(image)
        assert len(found) == len(golden["faces"]), photo
        assert (np.diff(found.scores) <= 0).all(), photo
        for face in golden["faces"]:
            overlaps = overlap(np.array(face["box"], np.float32), found.boxes)
            nearest = int(overlaps.argmax())
            assert overlaps[nearest] > 0.95, photo
            assert abs(float(found.scores[nearest]) - face["score"]) < 0.01, photo
            if "landmarks" in face:
                assert found.landmarks is not None
                width = face["box"][2] - face["box"][0]
                assert np.abs(found.landmarks[nearest] - face["landmarks"]).max() < 0.02 * width, photo


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("yunet_n_320_320", 0.84), ("yunet_n_640_640", 0.95), ("ultraface_version-RFB-320", 0.9)],
)
def test_reduced_decoding_moves_faces_a_little_and_loses_none(
    name: str, nearest: float, assets: Path, limits: ImageLimits
) -> None:
    detector = Detector(assets, name, reduced_decode=True)
    preprocessor = detector.preprocessor
    reduced = compared = 0
    for path in sorted((assets / "images").glob("*.jpg")):
        image, origin = decode_reduced(path.read_bytes(), limits, preprocessor.reduction)
        if "crowd" in path.name or origin.reduction == 1:
            continue
        tensor, transform = preprocessor(image, origin)
        golden = detector.golden["photos"][path.name]
        assert [transform.image_width, transform.image_height] == golden["size"]
        (found,) = detector.head.decode(detector.model.run(tensor[np.newaxis]), [transform])
        reduced += 1
        for face in golden["faces"]:
            if face["box"][2] - face["box"][0] > 40:
                overlaps = overlap(np.array(face["box"], np.float32), found.boxes)
                assert overlaps.max() > nearest, path.name
                assert abs(float(found.scores[overlaps.argmax()]) - face["score"]) < 0.03, path.name
                compared += 1
    assert reduced >= 4
    assert compared >= 4


def test_a_batch_of_mixed_photos_gives_what_each_gives_alone(assets: Path, limits: ImageLimits) -> None:
    detector = Detector(assets, "yunet_n_dynamic", width=320, height=320, resize=Resize.LETTERBOX)
    images = [decode_image((assets / "images" / photo).read_bytes(), limits) for photo in PHOTOS]
    together = detector.faces(*images)
    assert sum(len(faces) for faces in together) > 10
    for image, batched in zip(images, together, strict=True):
        (alone,) = detector.faces(image)
        assert len(alone) == len(batched)
        np.testing.assert_allclose(batched.boxes, alone.boxes, atol=1e-2)
        np.testing.assert_allclose(batched.scores, alone.scores, atol=1e-4)


@pytest.mark.parametrize("name", ["mobilefacenet_128", "mobilefacenet_128_dynamic"])
def test_embeddings_of_aligned_crops_are_the_golden_ones(
    name: str, assets: Path, limits: ImageLimits
) -> None:
    golden = json.loads((assets / "golden" / f"{name}.json").read_text())
    model = Model(assets / "models" / f"{name}.onnx")
    config = InputConfig(
        tensor=model.inputs[0].name,
        resize=Resize.LETTERBOX,
        width=112,
        height=112,
        color=ColorOrder.RGB,
        layout=Layout.NCHW,
        mean=(123.675, 116.28, 103.53),
        scale=(1 / 58.395, 1 / 57.12, 1 / 57.375),
    )
    embed = EmbedConfig(Alignment.ARCFACE, normalize=False, tensor=model.outputs[0].name)
    embedder = Embedder(VisionConfig(Task.EMBED, config, embed=embed), model.inputs, model.outputs)
    for crop, expected in golden["embeddings"].items():
        image = decode_image((assets / "images" / "aligned" / crop).read_bytes(), limits)
        tensor, _ = embedder.preprocessor(embedder.crop(image, None))
        vector = embedder.vectors(model.run(tensor[np.newaxis]))[0]
        np.testing.assert_allclose(vector, expected, atol=2e-3, err_msg=crop)


def test_a_face_aligned_from_its_photo_is_the_same_person(assets: Path, limits: ImageLimits) -> None:
    """From photo and landmarks to unit vectors: near to the same person's other photo, far from another's."""
    golden = json.loads((assets / "golden" / "mobilefacenet_128_dynamic.json").read_text())
    model = Model(assets / "models" / "mobilefacenet_128_dynamic.onnx")
    config = InputConfig(
        model.inputs[0].name, Resize.NONE, 112, 112, ColorOrder.RGB, Layout.NCHW,
        (123.675, 116.28, 103.53), (1 / 58.395, 1 / 57.12, 1 / 57.375),
    )  # fmt: skip
    embed = EmbedConfig(Alignment.ARCFACE, normalize=True, tensor=model.outputs[0].name)
    embedder = Embedder(VisionConfig(Task.EMBED, config, embed=embed), model.inputs, model.outputs)
    crops = {crop["photo"]: crop for crop in golden["crops"]}
    batch = np.empty((3, 3, 112, 112), np.float32)
    for slot, photo in zip(batch, ("obama_a.jpg", "obama_b.jpg", "biden_a.jpg"), strict=True):
        image = decode_image((assets / "images" / photo).read_bytes(), limits)
        embedder.preprocessor.write(embedder.crop(image, crops[photo]["landmarks"]), slot)
    one, same, other = embedder.vectors(model.run(batch))
    assert float(one @ same) > 0.6
    assert float(one @ other) < 0.3
