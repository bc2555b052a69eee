"""Faces of several pictures as output tensors."""

from __future__ import annotations

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.config.vision_config import ColorOrder, InputConfig, Layout, Resize, Task, VisionConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.services.encoded import FACE_OUTPUTS, face_arrays, is_encoded
from naiad.vision.detections import Detections


def faces(count: int, *, points: int = 0, labels: bool = False) -> Detections:
    """Faces whose numbers tell which one it is."""
    number = np.arange(count, dtype=np.float32)
    return Detections(
        np.repeat(number, 4).reshape(count, 4),
        np.linspace(1, 0, count, dtype=np.float32),
        np.repeat(number, 2 * points).reshape(count, points, 2) if points else None,
        np.arange(count, dtype=np.int32) if labels else None,
    )


def test_faces_come_picture_after_picture() -> None:
    """Pictures without faces leave no trace but in the numbers of those that follow."""
    arrays = face_arrays([faces(2), faces(0), faces(3)], None)
    assert arrays["naiad_image"].tolist() == [0, 0, 2, 2, 2]
    assert arrays["naiad_boxes"][:, 0].tolist() == [0, 1, 0, 1, 2]
    assert set(arrays) == {"naiad_boxes", "naiad_scores", "naiad_image"}


@pytest.mark.parametrize("count", [0, 4])
def test_each_output_has_the_type_and_the_shape_that_are_promised(count: int) -> None:
    arrays = face_arrays([faces(count, points=5, labels=True)], None)
    shapes = {name: array.shape for name, array in arrays.items()}
    assert shapes == {
        "naiad_boxes": (count, 4),
        "naiad_scores": (count,),
        "naiad_landmarks": (count, 5, 2),
        "naiad_labels": (count,),
        "naiad_image": (count,),
    }
    assert {name: array.dtype for name, array in arrays.items()} == {
        name: datatype.numpy for name, datatype in FACE_OUTPUTS.items()
    }


def test_only_what_is_wanted_comes_and_what_is_not_there_is_refused() -> None:
    assert list(face_arrays([faces(1)], ("naiad_scores",))) == ["naiad_scores"]
    with pytest.raises(InvalidArgumentError, match="'naiad_landmarks' was asked for.* gives no landmarks"):
        face_arrays([faces(1)], ("naiad_landmarks",))


def config(*, accepts: bool) -> ModelConfig:
    picture = InputConfig("image", Resize.STRETCH, 4, 4, ColorOrder.BGR, Layout.NCHW, (0.0,) * 3, (1.0,) * 3)
    return ModelConfig(
        "m",
        8,
        inputs=(TensorConfig("image", DataType.FP32, (3, 4, 4)),),
        outputs=(),
        vision=VisionConfig(Task.DETECT, picture, accepts_encoded=accepts),
    )


@pytest.mark.parametrize(
    ("accepts", "name", "datatype", "expected"),
    [
        (True, "image", "BYTES", True),
        (False, "image", "BYTES", False),
        (True, "image", "FP32", False),
        (True, "photo", "BYTES", False),
    ],
)
def test_only_bytes_of_the_image_input_of_a_model_that_accepts_files_are_files(
    *, accepts: bool, name: str, datatype: str, expected: bool
) -> None:
    message = pb.ModelInferRequest()
    message.inputs.add(name=name, datatype=datatype, shape=[1])
    assert is_encoded(message, config(accepts=accepts)) is expected
    message.inputs.add(name="more", datatype="BYTES", shape=[1])
    assert not is_encoded(message, config(accepts=accepts)), "a second input is for the checks of any request"


def test_a_model_of_tensors_takes_no_files() -> None:
    message = pb.ModelInferRequest()
    message.inputs.add(name="image", datatype="BYTES", shape=[1])
    assert not is_encoded(message, ModelConfig("m", 0, (), ()))
