"""The cascade finds what the original package finds, in any batch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import pytest

from naiad.core.errors import InvalidArgumentError
from naiad.demo.graph import GraphBuilder
from naiad.demo.mtcnn import MtcnnSettings, _Cascade, build_mtcnn
from naiad.demo.mtcnn_boxes import Rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Arrays = dict[str, Array]
    Run = Callable[..., Arrays]

PHOTOS = (
    "einstein.png", "lin_manuel_rgba.png", "man_stage.jpg", "newton.png", "noface_cartoon.jpg", "obama_a.jpg",
    "office_group.jpg", "stadium_crowd.jpg", "two_people.jpg", "variants/ob_base.png", "variants/ob_cmyk.jpg",
    "variants/ob_exif6.jpg", "variants/ob_grey.jpg", "variants/ob_progressive.jpg",
)  # fmt: skip
TIED_PHOTOS = ("obama_b.jpg",)
"""Two of its candidates have equal scores. numpy's sort leaves their order open, and here it went the other way."""


def found(result: Arrays, image: int = 0) -> tuple[Array, Array, Array]:
    count = result["count"][image]
    return tuple(result[name][image, :count] for name in ("boxes", "scores", "landmarks"))  # type: ignore[return-value]  # three names


def crop_and_resize(image: Array, box: Array, size: int) -> Array:
    """TensorFlow's rule, with the package's own division by the size instead of the last index."""
    sides = np.array(image.shape[:0:-1])  # width, height
    low, high = box[:2] / sides * (sides - 1), box[2:] / sides * (sides - 1)
    at = low + np.arange(size)[:, None] * (high - low) / (size - 1)
    inside = (at >= 0) & (at <= sides - 1)
    at = np.clip(at, 0, sides - 1)
    floor = np.floor(at).astype(int)
    ceil = np.ceil(at).astype(int)
    u, v = (at - floor)[:, 0], (at - floor)[:, 1, None]
    rows = (
        image[:, floor[:, 1]] * (1 - v[..., None][:, 0])[None]
        + image[:, ceil[:, 1]] * v[..., None][:, 0][None]
    )
    patch = rows[:, :, floor[:, 0]] * (1 - u) + rows[:, :, ceil[:, 0]] * u
    return np.asarray((patch - 127.5) * (inside[:, 1, None] & inside[None, :, 0]))


def test_patches_are_those_of_crop_and_resize(prepare: Callable[..., Run]) -> None:
    """Inside, over the borders on each side, and from the image that a row names."""
    graph = GraphBuilder()
    image = graph.input("image", np.float32, ["N", 3, "H", "W"])
    box = graph.input("box", np.float32, ["M", 4])
    index = graph.input("index", np.int64, ["M"])
    patches = _Cascade(graph, image, MtcnnSettings()).crop(Rows(index, box, box), 24)
    run = prepare(graph.model({"patches": (patches, np.float32, ["M", 3, 24, 24])}, doc=""))
    pixels = np.random.default_rng(4).uniform(0, 255, (2, 3, 50, 70)).astype(np.float32)
    boxes = np.array(
        [[3.3, 4.2, 30.1, 31], [-5, -6, 20, 19], [40, 20, 90, 70], [1.5, 2.5, 9, 10]], np.float32
    )
    images = np.array([0, 1, 0, 1])
    result = run(image=pixels, box=boxes, index=images)["patches"]
    for row in range(4):
        expected = crop_and_resize(pixels[images[row]], boxes[row].astype(float), 24)
        np.testing.assert_allclose(result[row], expected, atol=0.01)


def test_the_portraits_face_is_found_with_its_features_in_place(detector: Run, portrait: Array) -> None:
    boxes, scores, landmarks = found(detector(image=portrait[None]))
    assert len(boxes) == 1
    assert scores[0] > 0.99
    x1, y1, x2, y2 = boxes[0]
    assert 160 < x1 < 200
    assert 240 < x2 < 290
    assert 40 < y1 < 80
    assert 150 < y2 < 190
    left_eye, right_eye, nose, left_mouth, right_mouth = landmarks[0]
    assert x1 < left_eye[0] < nose[0] < right_eye[0] < x2
    assert left_mouth[0] < right_mouth[0]
    assert left_eye[1] < nose[1] < left_mouth[1] < y2


def test_each_image_of_a_batch_gets_what_it_gets_alone(detector: Run, portrait: Array) -> None:
    """Two faces, one, none, and noise: lists of different length in one batch."""
    small = np.zeros_like(portrait)
    small[100:300, 50:250] = cv2.resize(portrait, (200, 200), interpolation=cv2.INTER_AREA)
    small[280:480, 300:500] = small[100:300, 50:250]
    noise = np.random.default_rng(5).integers(0, 256, portrait.shape).astype(np.uint8)
    batch = np.stack([portrait, np.zeros_like(portrait), small, noise, portrait[:, ::-1]])
    together = detector(image=batch)
    assert together["count"][:3].tolist() == [1, 0, 2]
    for image in range(len(batch)):
        alone = detector(image=batch[image : image + 1])
        assert together["count"][image] == alone["count"][0]
        for one, other in zip(found(together, image), found(alone), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-3)


def test_rows_past_the_count_are_zero_and_scores_fall(detector: Run, portrait: Array) -> None:
    result = detector(image=np.stack([np.zeros_like(portrait), portrait]))
    assert result["boxes"].dtype == result["scores"].dtype == result["landmarks"].dtype == np.float32
    assert result["count"].dtype == np.int32
    for name in ("boxes", "scores", "landmarks"):
        assert not result[name][0].any()
    assert (np.diff(result["scores"], axis=1) <= 0).all()


@pytest.mark.parametrize("size", [(1, 1), (5, 300), (12, 12), (13, 40), (64, 48)])
def test_pictures_without_room_for_a_face_give_none(detector: Run, size: tuple[int, int]) -> None:
    result = detector(image=np.full((2, *size, 3), 90, np.uint8))
    assert result["count"].tolist() == [0, 0]
    assert result["boxes"].shape == (2, 1, 4)


def test_a_face_below_the_least_size_is_found_only_by_the_finer_pyramid(
    prepare: Callable[..., Run], detector: Run, portrait: Array
) -> None:
    canvas = np.full((240, 320, 3), 64, np.uint8)
    canvas[40:152, 80:192] = cv2.resize(portrait, (112, 112), interpolation=cv2.INTER_AREA)
    coarse = prepare(build_mtcnn(MtcnnSettings(min_face_size=60, levels=8)))
    assert detector(image=canvas[None])["count"].tolist() == [1]
    assert coarse(image=canvas[None])["count"].tolist() == [0]
    assert coarse(image=portrait[None])["count"].tolist() == [1]


def test_bounds_hold_in_a_picture_of_many_faces(prepare: Callable[..., Run], portrait: Array) -> None:
    """More faces than allowed: the allowed number comes out, and nothing fails."""
    face = cv2.resize(portrait[20:220, 120:320], (80, 80), interpolation=cv2.INTER_AREA)
    wall = np.tile(face, (3, 4, 1))
    bounds = {"max_candidates": 200, "max_proposals": 60, "max_faces": 5}
    bounded = prepare(build_mtcnn(MtcnnSettings(levels=8, **bounds)))  # type: ignore[arg-type]  # all integers
    free = prepare(build_mtcnn(MtcnnSettings(levels=8)))
    assert free(image=wall[None])["count"][0] > 5
    assert 0 < bounded(image=wall[None])["count"][0] <= 5


def test_the_model_is_valid_and_says_whose_weights_it_has(prepare: Callable[..., Run]) -> None:
    model = build_mtcnn(MtcnnSettings(levels=2))
    onnx.checker.check_model(model, full_check=True)
    assert "MIT" in model.doc_string
    prepare(model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_face_size": 8}, "min_face_size is 8, at least 12"),
        ({"factor": 1.0}, r"factor is 1\.0"),
        ({"levels": 0}, "levels is 0"),
        ({"max_faces": 0}, "max_faces is 0"),
        ({"thresholds": (0.6, 0.7, 1.5)}, "thresholds are"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        MtcnnSettings(**settings)


def compare(detector: Run, assets: Path, name: str, *, pixels: float, score: float) -> None:
    golden = json.loads((assets / "golden" / "mtcnn.json").read_text())["photos"][name]["faces"]
    bgr = cv2.imread(str(assets / "images" / name), cv2.IMREAD_COLOR)
    assert bgr is not None
    boxes, scores, landmarks = found(detector(image=np.ascontiguousarray(bgr[:, :, ::-1])[None]))
    assert len(boxes) == len(golden)
    left = list(range(len(boxes)))
    for face in golden:
        distance = np.abs(boxes[left] - face["box"]).max(axis=1)
        match = left.pop(int(distance.argmin()))
        np.testing.assert_allclose(boxes[match], face["box"], atol=pixels)
        np.testing.assert_allclose(landmarks[match], face["landmarks"], atol=pixels)
        assert scores[match] == pytest.approx(face["score"], abs=score)


@pytest.mark.assets
@pytest.mark.parametrize("name", PHOTOS)
def test_photos_give_what_the_original_package_gives(detector: Run, assets: Path, name: str) -> None:
    compare(detector, assets, name, pixels=0.05, score=1e-3)


@pytest.mark.assets
@pytest.mark.parametrize("name", TIED_PHOTOS)
def test_photos_with_tied_candidates_come_near(detector: Run, assets: Path, name: str) -> None:
    """The face is 270x414 pixels large."""
    compare(detector, assets, name, pixels=12, score=0.01)
