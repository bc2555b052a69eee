"""BlazeFace: anchors of each model, decoding and blending as a slow reference does, and the real model's faces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.heads import (
    Face,
    RealDetector,
    assert_batch_is_its_singles,
    assert_not_finite_is_left_out,
    assert_same,
    head_for,
    moved,
    out,
    overlap,
    plain,
    slow_overlap,
)
from support.vision import make_input

from naiad.config.vision_config import ColorOrder, Resize
from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.vision.detections import Detections
from naiad.vision.heads.blazeface import anchors
from naiad.vision.images import ImageLimits, decode_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.heads import Outputs

    from naiad.vision.arrays import Floats, Pixels
    from naiad.vision.heads import Head
    from naiad.vision.transform import Transform

SIDE = 128
DECLARED = [out("output", 896, 16), out("519", 896, 1)]
FRONT = ((8, 2), (16, 6))
PHOTOS = (
    "obama_a.jpg",
    "two_people.jpg",
    "man_stage.jpg",
    "newton.png",
    "einstein.png",
    "lin_manuel_rgba.png",
    "noface_cartoon.jpg",
)


def blazeface(**changes: Any) -> Head:
    return head_for("blazeface", DECLARED, (SIDE, SIDE), **changes)


def made_up(batch: int) -> Outputs:
    """Boxes of 20 to 40 pixels, of which some 5 % are faces."""
    rng = np.random.default_rng(2)
    values = rng.uniform(-6, 6, (batch, 896, 16))
    values[..., 2:4] = rng.uniform(20, 40, (batch, 896, 2))
    logits = np.where(rng.random((batch, 896, 1)) < 0.05, rng.uniform(-1, 4, (batch, 896, 1)), -9)
    return {"output": values.astype(np.float32), "519": logits.astype(np.float32)}


def nothing(batch: int) -> Outputs:
    return {
        "output": np.ones((batch, 896, 16), np.float32),
        "519": np.full((batch, 896, 1), -20, np.float32),
    }


def candidates(outputs: Outputs, picture: int) -> Iterator[Face]:
    """The project's words, one anchor at a time."""
    row = 0
    for stride, each in FRONT:
        for y in range(SIDE // stride):
            for x in range(SIDE // stride):
                for _ in range(each):
                    centre = ((x + 0.5) * stride, (y + 0.5) * stride)
                    values = outputs["output"][picture, row].astype(float)
                    logit = float(outputs["519"][picture, row, 0])
                    cx, cy = values[0] + centre[0], values[1] + centre[1]
                    box = (cx - values[2] / 2, cy - values[3] / 2, cx + values[2] / 2, cy + values[3] / 2)
                    points = [(values[k] + centre[0], values[k + 1] + centre[1]) for k in range(4, 16, 2)]
                    yield Face(1 / (1 + np.exp(-logit)), box, points)
                    row += 1


def slow_blend(faces: Iterator[Face], threshold: float, iou: float, transform: Transform) -> Detections:
    """Weighted suppression, one pair of faces at a time, and the way back."""
    waiting = sorted((face for face in faces if face.score >= threshold), key=lambda face: -face.score)
    found = []
    while waiting:
        group = [face for face in waiting if slow_overlap(waiting[0].box, face.box) > iou]
        waiting = [face for face in waiting if all(face is not other for other in group)]
        weights = np.array([face.score for face in group])
        box = np.average([face.box for face in group], axis=0, weights=weights)
        points = np.average([face.points for face in group], axis=0, weights=weights)
        found.append((weights.mean(), box, points))
    found.sort(key=lambda face: -face[0])
    offset, scale = [transform.offset_x, transform.offset_y], [transform.scale_x, transform.scale_y]
    boxes = [((box.reshape(2, 2) - offset) / scale).reshape(4) for _, box, _ in found]
    landmarks = [(points - offset) / scale for _, _, points in found]
    scores = np.array([score for score, _, _ in found], np.float32)
    return Detections(np.array(boxes, np.float32), scores, np.array(landmarks, np.float32))


def test_faces_are_those_of_the_slow_reference() -> None:
    outputs = made_up(2)
    transforms = [plain(SIDE, SIDE), moved(SIDE, SIDE)]
    found = blazeface(score_threshold=0.6, nms_iou=0.3).decode(outputs, transforms)
    for picture, transform in enumerate(transforms):
        expected = slow_blend(candidates(outputs, picture), 0.6, 0.3, transform)
        assert len(expected) > 5
        assert_same(found[picture], expected, atol=1e-3)
        landmarks = found[picture].landmarks
        assert landmarks is not None
        assert landmarks.shape[1:] == (6, 2)


def test_a_face_lies_where_its_anchor_is() -> None:
    """Row 3 of the first grid is the second anchor of its second cell: at (12, 4)."""
    outputs = nothing(1)
    outputs["519"][0, 3] = 0
    outputs["output"][0, 3] = [1, -1, 8, 6, *range(12)]
    (found,) = blazeface().decode(outputs, [plain(SIDE, SIDE)])
    np.testing.assert_allclose(found.boxes, [[9, 0, 17, 6]])
    np.testing.assert_allclose(found.scores, [0.5])
    assert found.landmarks is not None
    np.testing.assert_allclose(found.landmarks[0, [0, 5]], [[12, 5], [22, 15]])


@pytest.mark.parametrize(
    ("side", "count", "places"),
    [
        (
            128,
            896,
            {0: (4, 4), 1: (4, 4), 2: (12, 4), 512: (8, 8), 517: (8, 8), 518: (24, 8), 895: (120, 120)},
        ),
        (256, 896, {0: (8, 8), 2: (24, 8), 512: (16, 16), 518: (48, 16), 895: (240, 240)}),
        (192, 2304, {0: (2, 2), 1: (6, 2), 48: (2, 6), 2303: (190, 190)}),
    ],
)
def test_anchors_of_each_model_lie_in_the_middle_of_their_cells(
    side: int, count: int, places: dict[int, tuple[int, int]]
) -> None:
    centres = anchors(side, side, count)
    assert centres is not None
    assert centres.shape == (count, 2)
    for row, place in places.items():
        assert tuple(centres[row]) == place
    assert anchors(side, side, count + 1) is None


def test_a_batch_is_its_pictures_one_by_one() -> None:
    assert_batch_is_its_singles(
        blazeface(), made_up(3), [plain(SIDE, SIDE), moved(SIDE, SIDE), plain(SIDE, SIDE)]
    )


def test_no_face_is_found_where_there_is_none() -> None:
    assert [len(found) for found in blazeface().decode(nothing(2), [plain(SIDE, SIDE)] * 2)] == [0, 0]


def test_max_faces_cuts_the_worst() -> None:
    outputs, transforms = made_up(1), [plain(SIDE, SIDE)]
    (every,) = blazeface().decode(outputs, transforms)
    assert (np.diff(every.scores) <= 0).all()
    (some,) = blazeface().decode(outputs, transforms, max_faces=3)
    assert_same(some, every.take(slice(0, 3)))


def test_numbers_that_are_not_finite_are_left_out() -> None:
    assert_not_finite_is_left_out(blazeface(), made_up(1), plain(SIDE, SIDE))


def test_sizes_without_anchors_are_refused_with_those_that_have_some() -> None:
    with pytest.raises(InvalidArgumentError, match=r"no anchors for \[896\] rows of an input of 96x96"):
        head_for("blazeface", DECLARED, (96, 96))
    free = [out("output", -1, 16), out("519", -1, 1)]
    head = head_for("blazeface", free, (192, 192), graph=(-1, -1))
    with pytest.raises(InternalError, match="no anchors are known for 896 rows of an input of 192x192"):
        head.decode(nothing(1), [plain(192, 192)])


def test_outputs_are_found_by_their_dims_and_refused_where_two_are_alike() -> None:
    turned = [out("a", 896, 1), out("b", 896, 16)]
    assert head_for("blazeface", turned, (SIDE, SIDE)).output_names == ("b", "a")
    with pytest.raises(InvalidArgumentError, match=r"of scores with dims \[any, 1\].* which of a and c"):
        head_for("blazeface", [*turned, out("c", 896, 1)], (SIDE, SIDE))


@pytest.mark.assets
@pytest.mark.parametrize(
    ("resize", "near", "score"), [(Resize.STRETCH, 0.95, 0.01), (Resize.LETTERBOX_CENTER, 0.84, 0.1)]
)
def test_faces_of_photos_are_those_of_the_models_own_project(
    resize: Resize, near: float, score: float, assets: Path, limits: ImageLimits
) -> None:
    """The golden results come of squares; a letterbox of whole pixels moves a picture by up to half a pixel."""
    config = make_input(
        width=SIDE,
        height=SIDE,
        resize=resize,
        color=ColorOrder.RGB,
        mean=(127.5,) * 3,
        scale=(1 / 127.5,) * 3,
    )
    detector = RealDetector(assets, "blazeface_front_128.onnx", "blazeface", config)
    compared = 0
    for photo in PHOTOS:
        golden = detector.golden["photos"][photo]
        image = decode_image((assets / "images" / photo).read_bytes(), limits)
        border = np.zeros(2, np.float32)
        if resize is Resize.STRETCH:
            image, border = squared(image)
        found = detector.faces(image)
        assert len(found) == len(golden["faces"]), photo
        for face in golden["faces"]:
            boxes = found.boxes - np.tile(border, 2)
            overlaps = overlap(np.array(face["box"], np.float32), boxes)
            nearest = int(overlaps.argmax())
            assert overlaps[nearest] > near, photo
            assert abs(float(found.scores[nearest]) - face["score"]) < score, photo
            assert found.landmarks is not None
            width = face["box"][2] - face["box"][0]
            off = np.abs(found.landmarks[nearest] - border - face["landmarks"]).max()
            assert off < (0.02 if near > 0.9 else 0.1) * width, photo
            compared += 1
    assert compared >= 6


def squared(image: Pixels) -> tuple[Pixels, Floats]:
    """The picture in the middle of a black square, and the (x, y) of its corner there."""
    height, width = image.shape[:2]
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    square = np.zeros((side, side, 3), np.uint8)
    square[top : top + height, left : left + width] = image
    return square, np.array([left, top], np.float32)


@pytest.mark.assets
def test_the_real_models_tensors_are_the_golden_ones(assets: Path) -> None:
    detector = RealDetector(
        assets, "blazeface_front_128.onnx", "blazeface", make_input(width=SIDE, height=SIDE)
    )
    (check,) = detector.golden["io_check"]["checks"]
    count = int(np.prod(check["input_shape"]))
    values = (np.arange(count, dtype=np.uint64) * 2654435761 % 2**32) / 2**32 * 2 - 1
    outputs = detector.run(values.astype(np.float32).reshape(check["input_shape"]))
    for expected in check["outputs"]:
        array = outputs[expected["name"]]
        assert list(array.shape) == expected["shape"]
        np.testing.assert_allclose(array.reshape(-1)[:8], expected["first8"], rtol=1e-4, atol=1e-3)
