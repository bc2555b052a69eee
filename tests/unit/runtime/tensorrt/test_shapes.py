"""`naiad.tensorrt_shapes` is read to the letter, and what is wrong with it is told with key and value."""

from __future__ import annotations

import pytest
from support.runtime import config

from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.runtime.tensorrt.shapes import ShapeRange, read_declared_shapes

IMAGE = TensorConfig("image", DataType.FP32, (3, -1, -1))
SCALE = TensorConfig("scale:0", DataType.FP32, (-1,))


def declared(text: str) -> ModelConfig:
    return config(inputs=(IMAGE, SCALE), parameters={"naiad.tensorrt_shapes": text})


def test_nothing_declared_is_nothing() -> None:
    assert read_declared_shapes(config(inputs=(IMAGE,))) == {}


def test_ranges_of_several_inputs() -> None:
    """Spaces and new lines are free, a name may hold a colon, one shape stands for all three."""
    found = read_declared_shapes(declared("image:3x32x32/3x64x64/3x128x96 ,\n scale:0:4,"))
    assert found == {
        "image": ShapeRange((3, 32, 32), (3, 64, 64), (3, 128, 96)),
        "scale:0": ShapeRange((4,), (4,), (4,)),
    }
    assert str(found["image"]) == "3x32x32/3x64x64/3x128x96"


def test_the_dims_are_those_that_the_graph_gets() -> None:
    reshaped = TensorConfig("image", DataType.FP32, (-1,), reshape=(1, -1))
    given = config(inputs=(reshaped,), parameters={"naiad.tensorrt_shapes": "image:1x2/1x4/1x8"})
    assert read_declared_shapes(given)["image"].high == (1, 8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "INPUT:MIN/OPT/MAX"),
        ("image", "INPUT:MIN/OPT/MAX"),
        ("image:3x0x32", "INPUT:MIN/OPT/MAX"),
        ("image:3x32x32/3x64x64", "INPUT:MIN/OPT/MAX"),
        ("picture:3x32x32", "an input of the model: image, scale:0"),
        ("image:32x32", "3 dimensions, as input 'image' has: [3, -1, -1]"),
        ("image:1x32x32", "the model's own sizes where they are fixed: [3, -1, -1]"),
        ("image:3x64x64/3x32x32/3x128x128", "no dimension of MIN above that of OPT"),
        ("image:3x32x32,image:3x32x32", "each input once: 'image' is there twice"),
    ],
)
def test_what_is_wrong_is_told(text: str, expected: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        read_declared_shapes(declared(text))
    assert "'naiad.tensorrt_shapes'" in caught.value.message
    assert expected in caught.value.message


@pytest.mark.parametrize(
    ("shape", "inside"),
    [
        ((3, 32, 32), True),
        ((3, 128, 128), True),
        ((3, 31, 64), False),
        ((3, 64, 129), False),
        ((3, 64), False),
    ],
)
def test_what_a_range_holds(shape: tuple[int, ...], inside: bool) -> None:
    assert ShapeRange((3, 32, 32), (3, 64, 64), (3, 128, 128)).holds(shape) is inside
