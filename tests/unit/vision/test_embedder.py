"""The embedder: which crops it takes, and what it makes of the model's output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.vision import make_input

from naiad.config.model_config import TensorConfig
from naiad.config.vision_config import Alignment, DetectConfig, EmbedConfig, Task, VisionConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import InternalError, InvalidArgumentError
from naiad.vision.alignment import ARCFACE, align
from naiad.vision.embedder import Embedder

if TYPE_CHECKING:
    from naiad.vision.arrays import Pixels

INPUTS = [TensorConfig("input", DataType.FP32, (3, -1, -1))]
OUTPUTS = [TensorConfig("vectors", DataType.FP32, (2,))]


def embedder(
    alignment: Alignment = Alignment.ARCFACE,
    *,
    normalize: bool = False,
    tensor: str = "vectors",
    **changes: Any,
) -> Embedder:
    config = make_input(**({"width": 112, "height": 112} | changes))
    vision = VisionConfig(Task.EMBED, config, embed=EmbedConfig(alignment, normalize, tensor))
    return Embedder(vision, INPUTS, OUTPUTS)


def test_landmarks_give_an_aligned_crop_that_fills_the_input(photo: Pixels) -> None:
    landmarks = np.add(ARCFACE, (10, 5))
    subject = embedder()
    crop = subject.crop(photo, landmarks)
    np.testing.assert_array_equal(crop, align(photo, landmarks))
    np.testing.assert_array_equal(subject.preprocessor(crop)[0], crop.transpose(2, 0, 1))
    assert subject.output_names == ("vectors",)


def test_without_landmarks_only_an_image_of_the_crops_size_is_taken(photo: Pixels) -> None:
    subject = embedder()
    image = np.zeros((112, 112, 3), np.uint8)
    assert subject.crop(image, None) is image
    with pytest.raises(InvalidArgumentError, match=r"90x60 .*without landmarks: an aligned crop has 112x112"):
        subject.crop(photo, None)


def test_a_model_without_alignment_takes_whole_pictures_only(photo: Pixels) -> None:
    subject = embedder(Alignment.NONE)
    assert subject.crop(photo, None) is photo
    with pytest.raises(InvalidArgumentError, match=r"naiad\.embed\.alignment is 'none'"):
        subject.crop(photo, ARCFACE)


def test_vectors_are_normalised_only_if_the_config_says_so() -> None:
    outputs = {"vectors": np.array([[3, 4], [0, 2]], np.float32)}
    np.testing.assert_array_equal(embedder().vectors(outputs), outputs["vectors"])
    unit = embedder(normalize=True).vectors(outputs)
    np.testing.assert_allclose(unit, np.array([[0.6, 0.8], [0, 1]]), rtol=1e-6)


def test_extra_dimensions_of_a_vector_are_flattened() -> None:
    assert embedder().vectors({"vectors": np.zeros((3, 8, 1, 1), np.float16)}).shape == (3, 8)


def test_a_missing_output_is_the_models_fault() -> None:
    with pytest.raises(InternalError, match="the model gave nothing"):
        embedder().vectors({})
    with pytest.raises(InternalError, match=r"the model gave shape \[4\]"):
        embedder().vectors({"vectors": np.zeros(4, np.float32)})


def test_configs_that_do_not_suit_the_model_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="output 'other', the model's outputs are vectors"):
        embedder(tensor="other")
    with pytest.raises(
        InvalidArgumentError, match=r"square input of fixed size, naiad\.input\.size is 112x96"
    ):
        embedder(height=96)
    with pytest.raises(InvalidArgumentError, match="only an embedder"):
        Embedder(
            VisionConfig(Task.DETECT, make_input(), DetectConfig("yunet", 0.5, 0.5, 10)), INPUTS, OUTPUTS
        )


def test_a_planned_crop_is_cut_out_when_it_is_asked_for(photo: Pixels) -> None:
    """What is wrong shows when it is planned, before any batch is formed."""
    subject = embedder()
    crop = subject.plan_crop(photo, np.add(ARCFACE, (10, 5)))
    assert crop.image is photo
    np.testing.assert_array_equal(crop.pixels(), align(photo, np.add(ARCFACE, (10, 5))))
    with pytest.raises(InvalidArgumentError, match="all lie in one place"):
        subject.plan_crop(photo, np.ones((5, 2)))


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((10.2, 5.7, 20.1, 30.0), slice(5, 30), slice(10, 21)),
        ((-9, -9, 20, 30), slice(0, 30), slice(0, 20)),
        ((80, 50, 500, 500), slice(50, 60), slice(80, 90)),
        ((200, 200, 300, 300), slice(59, 60), slice(89, 90)),
        ((-20, -20, -10, -10), slice(0, 1), slice(0, 1)),
        ((7, 7, 7, 7), slice(7, 8), slice(7, 8)),
    ],
)
def test_a_box_is_taken_as_far_as_it_lies_in_the_picture_and_never_empty(
    photo: Pixels, box: tuple[float, ...], rows: slice, columns: slice
) -> None:
    """The photo has 90 x 60 pixels."""
    crop = embedder(Alignment.NONE).plan_box(photo, np.array(box, np.float32))
    np.testing.assert_array_equal(crop.pixels(), photo[rows, columns])


def test_a_request_may_ask_for_another_length_than_the_config() -> None:
    outputs = {"vectors": np.array([[3, 4]], np.float32)}
    for config in (True, False):
        subject = embedder(normalize=config)
        np.testing.assert_allclose(subject.vectors(outputs, normalize=True), [[0.6, 0.8]])
        np.testing.assert_allclose(subject.vectors(outputs, normalize=False), [[3, 4]])
        assert subject.vectors(outputs)[0, 0] == pytest.approx(0.6 if config else 3)
