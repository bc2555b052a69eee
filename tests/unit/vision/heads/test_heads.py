"""Heads on made-up outputs: each finds the face put there, and refuses outputs that are not its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from support.vision import make_input

from naiad.config.model_config import TensorConfig
from naiad.config.vision_config import (
    Alignment,
    DetectConfig,
    EmbedConfig,
    InputConfig,
    Task,
    VisionConfig,
)
from naiad.config.vision_parameters import KNOWN_HEADS
from naiad.core.datatypes import DataType
from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.vision.heads import HEADS, make_head
from naiad.vision.heads.yunet import priors
from naiad.vision.transform import Transform

if TYPE_CHECKING:
    from naiad.vision.heads import Head

SCALE = 0.5
TRANSFORM = Transform(SCALE, SCALE, 0.0, 0.0, 128, 128, 64, 64)
STRIDES = (8, 16, 32)


def out(name: str, *dims: int, datatype: DataType = DataType.FP32) -> TensorConfig:
    return TensorConfig(name, datatype, dims)


YUNET = [
    out(f"{kind}_{s}", (64 // s) ** 2, n)
    for kind, n in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
    for s in STRIDES
]
ULTRAFACE = [out("scores", 6, 2), out("boxes", 6, 4)]
MTCNN = [
    out("boxes", -1, 4),
    out("scores", -1),
    out("landmarks", -1, 5, 2),
    TensorConfig("count", DataType.INT32, (1,)),
]
SCRFD = [
    out(f"{kind}_{s}", 2 * (64 // s) ** 2, n) for kind, n in (("score", 1), ("bbox", 4)) for s in STRIDES
]
CENTERFACE = [out(name, size, 16, 16) for name, size in (("537", 1), ("538", 2), ("539", 2), ("540", 10))]
MOGFACE = [out("scores", 256 + 64 + 16 + 4 + 1 + 1, 1), out("boxes", 342, 4)]
OUTPUTS = {
    "blazeface": [out("boxes", 224, 16), out("scores", 224, 1)],
    "boxes": [out("rows", -1, 6)],
    "centerface": CENTERFACE,
    "mogface": MOGFACE,
    "mtcnn": MTCNN,
    "retinaface": [out("loc", 168, 4), out("conf", 168, 2), out("landms", 168, 10)],
    "scrfd": SCRFD,
    "ultraface": ULTRAFACE,
    "yolo": [out("output0", 6, 84)],
    "yolov5_face": [out(f"stride_{s}", 3, 64 // s, 64 // s, 16) for s in STRIDES],
    "yolov8_face": [out("output0", 20, 84)],
    "yunet": YUNET,
}


def assert_near(actual: npt.ArrayLike, expected: npt.ArrayLike) -> None:
    np.testing.assert_allclose(np.asarray(actual, float), np.asarray(expected, float), rtol=1e-5, atol=1e-4)


def detector(name: str, config: InputConfig, **changes: Any) -> VisionConfig:
    settings: dict[str, Any] = {
        "head": name,
        "score_threshold": 0.5,
        "nms_iou": 0.45,
        "max_faces": 100,
    } | changes
    return VisionConfig(Task.DETECT, config, DetectConfig(**settings))


@pytest.fixture
def square() -> InputConfig:
    return make_input(width=64, height=64)


def head_of(name: str, config: InputConfig, **changes: Any) -> Head:
    return make_head(detector(name, config, **changes), [out("input", 3, 64, 64)], OUTPUTS[name])


def yunet_outputs(batch: int) -> dict[str, npt.NDArray[Any]]:
    return {t.name: np.zeros((batch, *t.dims), np.float32) for t in YUNET}


def put_yunet_face(
    outputs: dict[str, npt.NDArray[Any]], picture: int, stride: int, cell: int, score: float
) -> None:
    """A face of twice the stride's size around the cell's corner, all landmarks one stride right of it."""
    outputs[f"cls_{stride}"][picture, cell] = score
    outputs[f"obj_{stride}"][picture, cell] = 1
    outputs[f"bbox_{stride}"][picture, cell] = [0, 0, np.log(2), np.log(2)]
    outputs[f"kps_{stride}"][picture, cell] = [1, 0] * 5


def test_yunet_decodes_cells_of_each_stride_in_each_picture_of_a_batch(square: InputConfig) -> None:
    outputs = yunet_outputs(3)
    put_yunet_face(outputs, 0, 8, 8 * 3 + 5, 0.8)  # row 3, column 5: at (40, 24)
    put_yunet_face(outputs, 2, 16, 4 * 1 + 2, 0.6)  # row 1, column 2: at (32, 16)
    put_yunet_face(outputs, 2, 32, 3, 0.7)  # row 1, column 1: at (32, 32)
    found = head_of("yunet", square).decode(outputs, [TRANSFORM] * 3)
    assert_near(found[0].boxes, np.array([[32, 16, 48, 32]]) / SCALE)
    assert found[0].landmarks is not None
    assert_near(found[0].landmarks, np.tile([48, 24], (1, 5, 1)) / SCALE)
    assert len(found[1]) == 0
    assert_near(found[2].scores, [0.7, 0.6])
    assert_near(found[2].boxes, np.array([[0, 0, 64, 64], [16, 0, 48, 32]]) / SCALE)


def test_yunet_score_is_the_product_and_neighbours_are_suppressed(square: InputConfig) -> None:
    outputs = yunet_outputs(1)
    put_yunet_face(outputs, 0, 32, 0, 0.9)
    outputs["obj_32"][0, 0] = 0.8
    put_yunet_face(outputs, 0, 32, 1, 0.6)
    outputs["bbox_32"][0, 1] = [-0.9, 0, np.log(2), np.log(2)]  # nearly the same place
    (found,) = head_of("yunet", square).decode(outputs, [TRANSFORM])
    assert_near(found.scores, [0.72])


def test_yunet_drops_boxes_that_overflow(square: InputConfig) -> None:
    outputs = yunet_outputs(1)
    put_yunet_face(outputs, 0, 8, 0, 0.9)
    outputs["bbox_8"][0, 0, 2] = 1000
    put_yunet_face(outputs, 0, 8, 9, 0.8)
    outputs["cls_8"][0, 40] = np.nan
    (found,) = head_of("yunet", square).decode(outputs, [TRANSFORM])
    assert_near(found.scores, [0.8])


def test_yunet_priors_go_row_by_row_stride_by_stride() -> None:
    cells = priors(64, 32)
    assert cells.shape == (8 * 4 + 4 * 2 + 2, 3)
    np.testing.assert_array_equal(
        cells[[0, 1, 8, 32, 41]], [[0, 0, 8], [8, 0, 8], [0, 8, 8], [0, 0, 16], [32, 0, 32]]
    )


def test_yunet_of_free_size_reads_the_size_off_the_transform() -> None:
    config = make_input(width=None, height=None)
    free = [TensorConfig(t.name, t.datatype, (-1, t.dims[1])) for t in YUNET]
    head = make_head(detector("yunet", config), [out("input", 3, -1, -1)], free)
    assert head.input_multiple == 32
    outputs: dict[str, npt.NDArray[Any]] = {
        t.name: np.zeros((1, (96 // s) * (32 // s), t.dims[1]), np.float32)
        for t, s in zip(YUNET, STRIDES * 4, strict=True)
    }
    put_yunet_face(outputs, 0, 32, 2, 0.9)
    (found,) = head.decode(outputs, [Transform(1, 1, 0, 0, 90, 30, 96, 32)])
    assert_near(found.boxes, [[32, -32, 96, 32]])
    with pytest.raises(InternalError, match="96x64 has 126"):
        head.decode(outputs, [Transform(1, 1, 0, 0, 90, 60, 96, 64)])


def test_ultraface_turns_fractions_into_pixels(square: InputConfig) -> None:
    scores = np.zeros((2, 6, 2), np.float32)
    boxes = np.zeros((2, 6, 4), np.float32)
    scores[1, 4] = [0.1, 0.9]
    scores[1, 5] = [0.9, 0.1]
    boxes[1, 4] = [0.25, 0.5, 0.75, 1.0]
    transform = Transform(64 / 200, 64 / 100, 0, 0, 200, 100, 64, 64)
    found = head_of("ultraface", square).decode({"scores": scores, "boxes": boxes}, [transform] * 2)
    assert [len(faces) for faces in found] == [0, 1]
    assert_near(found[1].boxes, [[50, 50, 150, 100]])
    assert found[1].landmarks is None


def mtcnn_outputs() -> dict[str, npt.NDArray[Any]]:
    return {
        "boxes": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        "scores": np.array([[0.9, 0.6, 0.4], [0.8, 0, 0]], np.float32),
        "landmarks": np.arange(60, dtype=np.float32).reshape(2, 3, 5, 2),
        "count": np.array([3, 1], np.int32),
    }


@pytest.mark.parametrize("count_shape", [(2,), (2, 1)])
def test_mtcnn_reads_as_many_rows_as_count_says(count_shape: tuple[int, ...], square: InputConfig) -> None:
    outputs = mtcnn_outputs()
    outputs["count"] = outputs["count"].reshape(count_shape)
    found = head_of("mtcnn", square).decode(outputs, [TRANSFORM] * 2, score_threshold=0.0)
    assert [len(faces) for faces in found] == [3, 1]
    assert_near(found[1].boxes, outputs["boxes"][1, :1] / SCALE)
    assert found[1].landmarks is not None
    assert_near(found[1].landmarks, outputs["landmarks"][1, :1] / SCALE)


def test_mtcnn_count_beyond_the_rows_is_the_models_fault(square: InputConfig) -> None:
    outputs = mtcnn_outputs() | {"count": np.array([4, 1], np.int32)}
    with pytest.raises(InternalError, match=r"'count' is \[4, 1\], 2 numbers between 0 and 3"):
        head_of("mtcnn", square).decode(outputs, [TRANSFORM] * 2)


def test_options_of_a_request_replace_the_configs_but_not_its_limit(square: InputConfig) -> None:
    outputs = mtcnn_outputs()
    head = head_of("mtcnn", square, max_faces=2)

    def scores(**options: Any) -> list[float]:
        return [round(float(s), 3) for s in head.decode(outputs, [TRANSFORM] * 2, **options)[0].scores]

    assert scores() == [0.9, 0.6]
    assert scores(score_threshold=0.7) == [0.9]
    assert scores(score_threshold=0.6) == [0.9, 0.6]  # the threshold itself is not below it
    assert scores(score_threshold=0.3, max_faces=9) == [0.9, 0.6]
    assert scores(max_faces=1) == [0.9]
    assert scores(max_faces=0) == [0.9, 0.6]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"score_threshold": 1.5}, "score_threshold is 1.5"),
        ({"score_threshold": float("nan")}, "score_threshold is nan"),
        ({"max_faces": -1}, "max_faces is -1"),
    ],
)
@pytest.mark.parametrize("name", HEADS)
def test_options_out_of_range_are_refused(
    name: str, options: dict[str, Any], words: str, square: InputConfig
) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        head_of(name, square).decode({}, [TRANSFORM], **options)


@pytest.mark.parametrize("name", HEADS)
def test_each_head_says_what_it_needs_and_what_the_model_has(name: str, square: InputConfig) -> None:
    wrong = [out("logits", 1000)]
    with pytest.raises(
        InvalidArgumentError, match=rf"naiad.head '{name}' needs an output .*'logits' FP32 \[1000\]"
    ):
        make_head(detector(name, square), [out("input", 3, 64, 64)], wrong)


@pytest.mark.parametrize("name", HEADS)
def test_each_head_accepts_its_outputs_with_a_written_batch_of_one(name: str, square: InputConfig) -> None:
    outputs = [TensorConfig(t.name, t.datatype, (1, *t.dims)) for t in OUTPUTS[name]]
    head = make_head(detector(name, square), [out("input", 1, 3, 64, 64)], outputs)
    assert set(head.output_names) == {t.name for t in outputs}


@pytest.mark.parametrize("name", HEADS)
def test_outputs_of_another_batch_or_missing_are_the_models_fault(name: str, square: InputConfig) -> None:
    head = head_of(name, square)
    outputs: dict[str, npt.NDArray[Any]] = {
        t.name: np.zeros((2, *(3 if d == -1 else d for d in t.dims)), np.float32) for t in OUTPUTS[name]
    }
    # Above a half, which is what a logit of 0 means.
    found = head.decode(outputs, [TRANSFORM] * 2, score_threshold=0.6)
    assert [len(faces) for faces in found] == [0, 0]
    with pytest.raises(InternalError, match="was expected"):
        head.decode(outputs, [TRANSFORM])
    with pytest.raises(InternalError, match="the model gave no output"):
        head.decode({}, [TRANSFORM])
    assert head.decode({name: array[:0] for name, array in outputs.items()}, []) == []


def test_yunet_refuses_sides_that_its_strides_do_not_divide() -> None:
    with pytest.raises(InvalidArgumentError, match=r"multiples of 32, naiad\.input\.size is 64x48"):
        make_head(detector("yunet", make_input()), [out("input", 3, 48, 64)], YUNET)


def test_an_unknown_head_is_refused_with_the_known_ones(square: InputConfig) -> None:
    with pytest.raises(InvalidArgumentError, match=f"'yoloz', known heads are {', '.join(sorted(HEADS))}"):
        make_head(detector("yoloz", square), [], [])


def test_configs_may_name_every_head_and_no_other() -> None:
    assert tuple(sorted(HEADS)) == KNOWN_HEADS


def test_an_embedder_has_no_head(square: InputConfig) -> None:
    config = VisionConfig(
        Task.EMBED, square, embed=EmbedConfig(Alignment.NONE, normalize=False, tensor="out")
    )
    with pytest.raises(InvalidArgumentError, match=r"naiad\.task is 'embed'"):
        make_head(config, [], [])
