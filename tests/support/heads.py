"""Building heads for tests, made-up and real; comparing what they find."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnxruntime
from support.vision import make_input

from naiad.config.model_config import TensorConfig
from naiad.config.vision_config import DetectConfig, Task, VisionConfig
from naiad.core.datatypes import DataType
from naiad.vision.detections import Detections
from naiad.vision.heads import make_head
from naiad.vision.preprocess import Preprocessor
from naiad.vision.transform import Transform

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from naiad.config.vision_config import InputConfig
    from naiad.vision.arrays import Floats, Pixels
    from naiad.vision.heads import Head

    Outputs = dict[str, npt.NDArray[Any]]

SIZE = 64
"""Width and height of the made-up inputs."""


def out(name: str, *dims: int, datatype: DataType = DataType.FP32) -> TensorConfig:
    """An output without its batch dimension."""
    return TensorConfig(name, datatype, dims)


def head_for(
    name: str,
    outputs: Sequence[TensorConfig],
    size: tuple[int, int] | None = (SIZE, SIZE),
    graph: tuple[int, int] | None = None,
    **changes: Any,
) -> Head:
    """A head for a model of `outputs`.

    Args:
        name: of the head.
        outputs: the model's.
        size: `naiad.input.size`, width and height, or None.
        graph: width and height of the input in the graph, -1 for any; those of `size` unless said otherwise.
        changes: fields of the DetectConfig.
    """
    width, height = size or (None, None)
    shape = graph or size or (-1, -1)
    settings: dict[str, Any] = {"score_threshold": 0.5, "nms_iou": 0.45, "max_faces": 100} | changes
    config = VisionConfig(
        Task.DETECT, make_input(width=width, height=height), DetectConfig(head=name, **settings)
    )
    return make_head(config, [out("input", 3, shape[1], shape[0])], outputs)


def plain(width: int = SIZE, height: int = SIZE) -> Transform:
    """A picture of exactly the input's size."""
    return Transform(1, 1, 0, 0, width, height, width, height)


def moved(width: int = SIZE, height: int = SIZE) -> Transform:
    """A picture twice as large as what lies in the input, four and six pixels from its corner."""
    return Transform(0.5, 0.5, 4, 6, 2 * width - 16, 2 * height - 24, width, height)


def assert_same(found: Detections, expected: Detections, atol: float = 1e-4) -> None:
    """Both have the same faces in the same order."""
    assert len(found) == len(expected)
    np.testing.assert_allclose(found.scores, expected.scores, atol=atol)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=atol, rtol=1e-5)
    assert (found.landmarks is None) == (expected.landmarks is None)
    if found.landmarks is not None and expected.landmarks is not None:
        np.testing.assert_allclose(found.landmarks, expected.landmarks, atol=atol, rtol=1e-5)
    assert (found.labels is None) == (expected.labels is None)
    if found.labels is not None and expected.labels is not None:
        np.testing.assert_array_equal(found.labels, expected.labels)


def assert_batch_is_its_singles(head: Head, outputs: Outputs, transforms: Sequence[Transform]) -> None:
    """A batch gives what each of its pictures gives alone, with and without a batch dimension."""
    together = head.decode(outputs, transforms)
    assert sum(len(found) for found in together) > 0
    for index, transform in enumerate(transforms):
        alone = {name: array[index : index + 1] for name, array in outputs.items()}
        assert_same(head.decode(alone, [transform])[0], together[index])
        bare = {name: array[index] for name, array in outputs.items()}
        assert_same(head.decode(bare, [transform])[0], together[index])


def assert_limits_hold(head: Head, outputs: Outputs, transform: Transform) -> None:
    """The threshold keeps what reaches it, the best come first, and `max_faces` cuts from the end."""
    (every,) = head.decode(outputs, [transform], score_threshold=0.3)
    assert len(every) > 2
    assert (np.diff(every.scores) <= 0).all()
    cut = float(every.scores[1])
    (some,) = head.decode(outputs, [transform], score_threshold=cut)
    assert_same(some, every.take(np.flatnonzero(every.scores >= cut)))
    (one,) = head.decode(outputs, [transform], score_threshold=0.3, max_faces=1)
    assert_same(one, every.take(slice(0, 1)))
    (none,) = head.decode(outputs, [transform], score_threshold=1.0)
    assert len(none) == 0


def assert_not_finite_is_left_out(head: Head, outputs: Outputs, transform: Transform) -> None:
    """Whatever else a model gives, no number found is other than finite, and nothing warns."""
    rng = np.random.default_rng(11)
    for value in (np.nan, np.inf, -np.inf, 3e38, -3e38):
        spoiled = {name: array.copy() for name, array in outputs.items()}
        for array in spoiled.values():
            array.reshape(-1)[rng.integers(0, array.size, array.size // 8)] = value
        (found,) = head.decode(spoiled, [transform], score_threshold=0.0)
        numbers = [found.boxes, found.scores, found.landmarks]
        assert all(np.isfinite(array).all() for array in numbers if array is not None)


class Face(NamedTuple):
    """A candidate of a reference implementation, in pixels of the input."""

    score: float
    box: tuple[float, float, float, float]
    points: Sequence[tuple[float, float]] | None = None
    label: int | None = None


def slow_faces(candidates: Iterable[Face], threshold: float, iou: float, transform: Transform) -> Detections:
    """Threshold, suppression within each class and the way back, one pair of faces at a time."""
    kept: list[Face] = []
    for face in sorted(candidates, key=lambda face: -face.score):
        rivals = [better.box for better in kept if better.label == face.label]
        if face.score >= threshold and all(slow_overlap(box, face.box) <= iou for box in rivals):
            kept.append(face)

    def back(x: float, y: float) -> list[float]:
        return [
            (x - transform.offset_x) / transform.scale_x,
            (y - transform.offset_y) / transform.scale_y,
        ]

    boxes = [back(*face.box[:2]) + back(*face.box[2:]) for face in kept]
    points = [[back(*point) for point in face.points] for face in kept if face.points is not None]
    labels = [face.label for face in kept if face.label is not None]
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([face.score for face in kept], np.float32),
        np.array(points, np.float32) if points else None,
        np.array(labels, np.int32) if labels else None,
    )


def slow_overlap(left: Sequence[float], right: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    width = min(left[2], right[2]) - max(left[0], right[0])
    height = min(left[3], right[3]) - max(left[1], right[1])
    common = max(width, 0.0) * max(height, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (left, right)]
    return common / (sum(areas) - common)


def overlap(box: Floats, boxes: Floats) -> Floats:
    """Intersection over union of one box with each of several."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    common = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    result: Floats = common / (areas + np.prod(box[2:] - box[:2]) - common)
    return result


class RealDetector:
    """A real graph with its golden results: the whole way from a picture to its faces."""

    def __init__(self, assets: Path, file: str, head: str, config: InputConfig, **changes: Any) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        path = assets / "models" / file
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.golden: Mapping[str, Any] = json.loads((assets / "golden" / f"{path.stem}.json").read_text())
        inputs = [_declared(value) for value in self._session.get_inputs()]
        self._names = [value.name for value in self._session.get_outputs()]
        settings = {
            "score_threshold": self.golden["score_threshold"],
            "nms_iou": self.golden["nms_iou"],
            "max_faces": 1000,
        } | changes
        config = replace(config, tensor=inputs[0].name)
        vision = VisionConfig(Task.DETECT, config, DetectConfig(head=head, **settings))
        self.head = make_head(vision, inputs, [_declared(value) for value in self._session.get_outputs()])
        self._preprocessor = Preprocessor.for_inputs(config, inputs, multiple=self.head.input_multiple)
        self._input = inputs[0].name

    def run(self, tensor: npt.NDArray[Any]) -> Outputs:
        """All outputs."""
        return dict(zip(self._names, self._session.run(self._names, {self._input: tensor}), strict=True))

    def faces(self, image: Pixels) -> Detections:
        """Of one picture."""
        tensor, transform = self._preprocessor(image)
        (found,) = self.head.decode(self.run(tensor), [transform])
        return found


def _declared(value: Any) -> TensorConfig:
    """As a config of a model without batches declares it."""
    dims = tuple(size if isinstance(size, int) else -1 for size in value.shape)
    return TensorConfig(value.name, DataType.FP32, dims)
