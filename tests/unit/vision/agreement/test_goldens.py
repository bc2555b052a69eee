"""Real models on real photos: a model against itself, and against itself with weights that were changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.vision import make_input

from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.config.vision_config import (
    Alignment,
    ColorOrder,
    DetectConfig,
    EmbedConfig,
    Resize,
    Task,
    VisionConfig,
)
from naiad.core.datatypes import DataType
from naiad.vision.agreement import DetectionAgreement, EmbeddingAgreement, RankWindow, agree, signs
from naiad.vision.detector import Detector
from naiad.vision.embedder import Embedder
from naiad.vision.images import ImageLimits, decode_image

if TYPE_CHECKING:
    from pathlib import Path

    from naiad.core.tensors import Array

onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.assets

PHOTOS = ("obama_a.jpg", "two_people.jpg", "office_group.jpg", "newton.png", "noface_cartoon.jpg")
MEAN, SCALE = (123.675, 116.28, 103.53), (1 / 58.395, 1 / 57.12, 1 / 57.375)
LIMITS = ImageLimits(max_bytes=50_000_000, max_pixels=40_000_000)


class Graph:
    """A real graph, its weights perhaps changed."""

    def __init__(self, model: onnx.ModelProto) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = tuple(map(self._config, self._session.get_inputs()))
        self.outputs = tuple(map(self._config, self._session.get_outputs()))

    @staticmethod
    def _config(value: Any) -> TensorConfig:
        dims = tuple(size if isinstance(size, int) else -1 for size in value.shape[1:])
        return TensorConfig(value.name, DataType.FP32, dims)

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        names = [output.name for output in self.outputs]
        return dict(zip(names, self._session.run(names, inputs), strict=True))


def perturbed(model: onnx.ModelProto, share: float) -> onnx.ModelProto:
    """A copy whose weights are off by a normal deviate of this share each."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    rng = np.random.default_rng(7)
    for weights in copy.graph.initializer:
        if weights.data_type == onnx.TensorProto.FLOAT and len(weights.dims) == 4:
            values = numpy_helper.to_array(weights)
            noisy = values * (1 + share * rng.normal(size=values.shape))
            weights.CopyFrom(numpy_helper.from_array(noisy.astype(np.float32), weights.name))
    return copy


class Subject:
    """A model, the request that it is tried with, and its first answer."""

    def __init__(self, path: Path) -> None:
        self.proto = onnx.load(path)
        self.graph = Graph(self.proto)
        self.vision: Detector | Embedder
        self.config: ModelConfig
        self.inputs: dict[str, Array]

    def answer(self, share: float = 0.0) -> dict[str, Array]:
        return Graph(perturbed(self.proto, share)).run(self.inputs)


@pytest.fixture(scope="module")
def yunet(assets: Path) -> Subject:
    subject = Subject(assets / "models" / "yunet_n_dynamic.onnx")
    graph = subject.graph
    config = make_input(tensor=graph.inputs[0].name, width=320, height=320)
    vision = VisionConfig(Task.DETECT, config, DetectConfig("yunet", 0.5, 0.45, 1000))
    detector = Detector(vision, graph.inputs, graph.outputs)
    images = [decode_image((assets / "images" / photo).read_bytes(), LIMITS) for photo in PHOTOS]
    batch = np.stack([detector.preprocessor(image)[0] for image in images])
    subject.vision = detector
    subject.config = ModelConfig("yunet", 8, graph.inputs, graph.outputs, vision=vision)
    subject.inputs = {graph.inputs[0].name: batch}
    return subject


@pytest.fixture(scope="module")
def crops(assets: Path) -> list[Any]:
    paths = sorted((assets / "images" / "aligned").glob("*.png"))
    return [decode_image(path.read_bytes(), LIMITS) for path in paths]


def embedder_of(path: Path, crops: list[Any], **settings: Any) -> Subject:
    subject = Subject(path)
    graph = subject.graph
    config = make_input(
        tensor=graph.inputs[0].name,
        width=112,
        height=112,
        resize=Resize.NONE,
        color=ColorOrder.RGB,
        **settings,
    )
    embed = EmbedConfig(Alignment.ARCFACE, normalize=True, tensor=graph.outputs[0].name)
    vision = VisionConfig(Task.EMBED, config, embed=embed)
    embedder = Embedder(vision, graph.inputs, graph.outputs)
    subject.vision = embedder
    subject.config = ModelConfig("embedder", 64, graph.inputs, graph.outputs, vision=vision)
    subject.inputs = {graph.inputs[0].name: np.stack([embedder.preprocessor(crop)[0] for crop in crops])}
    return subject


@pytest.fixture(scope="module")
def mobilefacenet(assets: Path, crops: list[Any]) -> Subject:
    path = assets / "models" / "mobilefacenet_128_dynamic.onnx"
    return embedder_of(path, crops, mean=MEAN, scale=SCALE)


def compared(subject: Subject, share: float, **options: Any) -> Any:
    return agree(
        subject.vision, subject.config, subject.answer(), subject.answer(share), subject.inputs, **options
    )


def test_a_detector_agrees_with_itself_to_the_bit(yunet: Subject) -> None:
    found = compared(yunet, 0)
    told = signs(yunet.vision, yunet.config, yunet.answer(), yunet.inputs)
    assert found.matched > 5
    assert found == DetectionAgreement(found.matched, found.matched, found.matched, 1.0, 0.0, 0.0, 0.0)
    assert (told.rows, told.detections, told.is_finite) == (len(PHOTOS), found.matched, True)
    assert told.top_score is not None
    assert 0.5 < told.top_score <= 1


def test_a_detector_disagrees_the_more_the_more_its_weights_are_off(yunet: Subject) -> None:
    little, more, ruined = (compared(yunet, share) for share in (0.003, 0.1, 1.0))
    assert little.matched == little.baseline == little.candidate
    assert little.mean_iou > 0.97
    assert little.landmark_error < 0.05
    assert abs(little.score_shift) < 0.02
    assert more.mean_iou < little.mean_iou
    assert 0 < little.disagreement < more.disagreement < ruined.disagreement
    assert ruined.disagreement > 0.9


def test_a_detector_that_is_less_sure_loses_faces_near_the_threshold(yunet: Subject) -> None:
    """All scores at nine tenths: the boxes are the same, and what fell below the threshold is missed."""
    mine = yunet.answer()
    factor = np.float32(0.9)
    theirs: dict[str, Array] = {
        name: np.multiply(array, factor) if name.startswith("cls") else array for name, array in mine.items()
    }
    found = agree(yunet.vision, yunet.config, mine, theirs, yunet.inputs)
    assert isinstance(found, DetectionAgreement)
    assert found.mean_iou > 0.95
    assert -0.1 < found.score_shift < -0.05
    assert found.candidate == found.matched <= found.baseline


def test_a_batch_of_photos_is_the_sum_of_its_photos(yunet: Subject) -> None:
    mine, theirs = yunet.answer(), yunet.answer(0.1)
    together = agree(yunet.vision, yunet.config, mine, theirs, yunet.inputs)
    assert isinstance(together, DetectionAgreement)
    alone: list[DetectionAgreement] = []
    for row in range(len(PHOTOS)):
        parts = [
            {name: array[row : row + 1] for name, array in each.items()}
            for each in (mine, theirs, yunet.inputs)
        ]
        found = agree(yunet.vision, yunet.config, *parts)
        assert isinstance(found, DetectionAgreement)
        alone.append(found)
    for name in ("baseline", "candidate", "matched"):
        assert getattr(together, name) == sum(getattr(each, name) for each in alone)
    assert together.mean_iou == pytest.approx(
        sum(each.mean_iou * each.matched for each in alone) / together.matched
    )


def test_an_embedder_agrees_with_itself(mobilefacenet: Subject) -> None:
    found = compared(mobilefacenet, 0)
    assert found.rows == 16
    assert found.min_cosine == pytest.approx(1, abs=1e-9)
    assert found.rank_agreement == pytest.approx(1)
    assert found.norm_ratio == 1


def test_an_embedder_disagrees_the_more_the_more_its_weights_are_off(mobilefacenet: Subject) -> None:
    little, more, ruined = (compared(mobilefacenet, share) for share in (0.003, 0.1, 1.0))
    assert little.min_cosine > 0.995
    assert little.rank_agreement > 0.98
    assert little.mean_cosine > more.mean_cosine > ruined.mean_cosine
    assert little.disagreement < more.disagreement < ruined.disagreement


def test_embedders_of_other_spaces_are_compared_by_their_orders_alone(
    mobilefacenet: Subject, assets: Path, crops: list[Any]
) -> None:
    """Two nets of different training and length: no cosine, but the same people are near each other in both."""
    other = embedder_of(assets / "models" / "mobileface_v3_256.onnx", crops)
    assert isinstance(other.vision, Embedder)
    [name] = mobilefacenet.vision.output_names
    theirs = {name: other.answer()[other.vision.output_names[0]]}
    found = agree(
        mobilefacenet.vision,
        mobilefacenet.config,
        mobilefacenet.answer(),
        theirs,
        mobilefacenet.inputs,
        window=RankWindow(),
    )
    assert isinstance(found, EmbeddingAgreement)
    assert (found.mean_cosine, found.min_cosine) == (0, 0)
    assert found.rank_agreement is not None
    assert 0.1 < found.rank_agreement < 1
    assert found.disagreement == pytest.approx(1 - found.rank_agreement)
