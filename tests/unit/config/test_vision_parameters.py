"""The `naiad.…` parameters: every key's values and defaults, and every error names its key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.config.sequence_config import SequenceBatching
from naiad.config.vision_config import (
    Alignment,
    ColorOrder,
    Coordinates,
    DetectConfig,
    EmbedConfig,
    InputConfig,
    Layout,
    Resize,
    Task,
    VisionConfig,
)
from naiad.config.vision_parameters import KEYS, KNOWN_HEADS, read_vision_config
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError

DETECT = {"naiad.task": "detect", "naiad.head": "yunet"}
EMBED = {"naiad.task": "embed"}


def _read(
    parameters: dict[str, str],
    dims: tuple[int, ...] = (3, 480, 640),
    outputs: tuple[str, ...] = ("y",),
    *,
    max_batch_size: int = 8,
    datatype: DataType = DataType.FP32,
) -> VisionConfig | None:
    return read_vision_config(
        ModelConfig(
            name="m",
            max_batch_size=max_batch_size,
            inputs=(TensorConfig("x", datatype, dims),),
            outputs=tuple(TensorConfig(name, DataType.FP32, (128,)) for name in outputs),
            parameters=parameters,
        )
    )


def _input(parameters: dict[str, str], dims: tuple[int, ...] = (3, 480, 640)) -> InputConfig:
    vision = _read(DETECT | parameters, dims)
    assert vision is not None
    return vision.input


def _error(parameters: dict[str, str], dims: tuple[int, ...] = (3, 480, 640)) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        _read(parameters, dims)
    return caught.value.message


def test_a_model_without_naiad_parameters_is_no_vision_model() -> None:
    assert _read({"execution_mode": "0"}) is None
    assert _read({"naiad.runtime.execution_providers": "CPU"}) is None, "what the server reports is not read"


def test_a_detectors_defaults() -> None:
    vision = _read(DETECT)
    assert vision == VisionConfig(
        Task.DETECT,
        InputConfig(
            tensor="x",
            resize=Resize.LETTERBOX,
            width=640,
            height=480,
            color=ColorOrder.RGB,
            layout=Layout.NCHW,
            mean=(0.0, 0.0, 0.0),
            scale=(1.0, 1.0, 1.0),
        ),
        detect=DetectConfig("yunet", score_threshold=0.5, nms_iou=0.45, max_faces=1000),
    )


def test_an_embedders_defaults() -> None:
    vision = _read(EMBED, (3, 112, 112))
    assert vision is not None
    assert vision.embed == EmbedConfig(Alignment.ARCFACE, normalize=False, tensor="y")
    assert vision.detect is None


def test_every_key_is_honoured() -> None:
    vision = _read(
        DETECT
        | {
            "naiad.head": "mtcnn",
            "naiad.input.resize": "stretch",
            "naiad.input.size": "640x480",
            "naiad.input.color": "bgr",
            "naiad.input.layout": "nhwc",
            "naiad.input.mean": "104, 117.5,123",
            "naiad.input.scale": "0.0078125",
            "naiad.input.reduced_decode": "auto",
            "naiad.detect.score_threshold": "0.9",
            "naiad.detect.nms_iou": "0",
            "naiad.detect.max_faces": "5",
        },
        (480, 640, 3),
    )
    assert vision is not None
    assert vision.detect == DetectConfig("mtcnn", 0.9, 0.0, 5)
    assert vision.input.resize is Resize.STRETCH
    assert vision.input.color is ColorOrder.BGR
    assert vision.input.layout is Layout.NHWC
    assert vision.input.mean == (104.0, 117.5, 123.0)
    assert vision.input.scale == (0.0078125,) * 3
    assert vision.input.reduced_decode
    vision = _read(
        EMBED
        | {
            "naiad.embed.alignment": "none",
            "naiad.embed.normalize": "true",
            "naiad.embed.output": "b",
        },
        outputs=("a", "b"),
    )
    assert vision is not None
    assert vision.embed == EmbedConfig(Alignment.NONE, normalize=True, tensor="b")


def test_image_files_are_taken_only_where_the_config_says_so() -> None:
    for base, dims in ((DETECT, (3, 480, 640)), (EMBED, (3, 112, 112))):
        for parameters, expected in (
            ({}, False),
            ({"naiad.accepts": "tensor"}, False),
            ({"naiad.accepts": "encoded"}, True),
        ):
            vision = _read(base | parameters, dims)
            assert vision is not None
            assert vision.accepts_encoded is expected


def test_image_files_and_sequences_or_outputs_of_the_same_names_exclude_each_other() -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"naiad\.accepts.* output 'naiad_boxes' begins with 'naiad_'"
    ):
        _read(DETECT | {"naiad.accepts": "encoded"}, outputs=("naiad_boxes",))
    config = ModelConfig(
        name="m",
        max_batch_size=8,
        inputs=(TensorConfig("x", DataType.FP32, (3, 4, 4)),),
        outputs=(),
        sequence_batching=SequenceBatching(),
        parameters=DETECT | {"naiad.accepts": "encoded"},
    )
    with pytest.raises(InvalidArgumentError, match=r"naiad\.accepts is 'encoded' beside sequence_batching"):
        read_vision_config(config)


@pytest.mark.parametrize("head", KNOWN_HEADS)
def test_each_known_head_is_accepted(head: str) -> None:
    vision = _read(DETECT | {"naiad.head": head})
    assert vision is not None
    assert vision.detect is not None
    assert vision.detect.head == head


@pytest.mark.parametrize(
    ("dims", "layout", "width", "height"),
    [
        ((3, 480, 640), Layout.NCHW, 640, 480),
        ((480, 640, 3), Layout.NHWC, 640, 480),
        ((1, 3, 480, 640), Layout.NCHW, 640, 480),
        ((-1, 480, 640, 3), Layout.NHWC, 640, 480),
    ],
)
def test_layout_and_size_are_read_off_the_dims(
    dims: tuple[int, ...], layout: Layout, width: int, height: int
) -> None:
    vision = _read(DETECT, dims, max_batch_size=0)
    assert vision is not None
    assert (vision.input.layout, vision.input.width, vision.input.height) == (layout, width, height)


@pytest.mark.parametrize("resize", ["letterbox", "letterbox_center", "stretch", "crop"])
def test_each_way_to_resize_is_accepted_and_the_border_is_black_unless_said(resize: str) -> None:
    read = _input({"naiad.input.resize": resize})
    assert (read.resize.value, read.pad) == (resize, 0)


def test_the_border_of_a_letterbox_and_of_a_free_size_may_be_another() -> None:
    assert _input({"naiad.input.resize": "letterbox_center", "naiad.input.pad": "114"}).pad == 114
    assert _input({"naiad.input.pad": "255"}, (3, -1, -1)).pad == 255


def test_finished_boxes_may_be_counted_in_fractions() -> None:
    for parameters, expected in (
        ({}, Coordinates.PIXELS),
        ({"naiad.detect.coordinates": "fractions"}, Coordinates.FRACTIONS),
    ):
        vision = _read(DETECT | {"naiad.head": "boxes"} | parameters)
        assert vision is not None
        assert vision.detect is not None
        assert vision.detect.coordinates is expected


def test_gray_takes_one_channel() -> None:
    read = _input({"naiad.input.color": "gray", "naiad.input.mean": "127.5"}, (1, 28, 28))
    assert (read.color, read.mean, read.scale) == (ColorOrder.GRAY, (127.5,), (1.0,))


def test_a_size_fixes_open_dims_and_open_dims_alone_mean_no_resize() -> None:
    sized = _input({"naiad.input.size": "640x320"}, (3, -1, -1))
    assert (sized.resize, sized.width, sized.height) == (Resize.LETTERBOX, 640, 320)
    free = _input({}, (3, -1, -1))
    assert (free.resize, free.width, free.height) == (Resize.NONE, None, None)
    assert _input({"naiad.input.resize": "none"}, (3, -1, -1)) == free
    half = _input({"naiad.input.size": "640x320"}, (3, 320, -1))
    assert (half.width, half.height) == (640, 320)


@pytest.mark.parametrize(
    ("parameters", "dims", "key", "value", "allowed"),
    [
        ({"naiad.task": "segment"}, (3, 4, 4), "naiad.task", "'segment'", "detect or embed"),
        (DETECT | {"naiad.accepts": "jpeg"}, (3, 4, 4), "naiad.accepts", "'jpeg'", "tensor or encoded"),
        (DETECT | {"naiad.head": "scrdf"}, (3, 4, 4), "naiad.head", "'scrdf'", "retinaface, scrfd, "),
        ({"naiad.task": "detect"}, (3, 4, 4), "naiad.head", "missing", "retinaface, scrfd, "),
        (DETECT | {"naiad.input.resize": "fit"}, (3, 4, 4), "naiad.input.resize", "'fit'", "letterbox or"),
        (DETECT | {"naiad.input.pad": "256"}, (3, 4, 4), "naiad.input.pad", "'256'", "from 0 to 255"),
        (DETECT | {"naiad.input.pad": "-1"}, (3, 4, 4), "naiad.input.pad", "'-1'", "from 0 to 255"),
        (
            DETECT | {"naiad.head": "boxes", "naiad.detect.coordinates": "cells"},
            (3, 4, 4),
            "naiad.detect.coordinates",
            "'cells'",
            "pixels or fractions",
        ),
        (DETECT | {"naiad.input.size": "640"}, (3, 4, 4), "naiad.input.size", "'640'", "WIDTHxHEIGHT"),
        (DETECT | {"naiad.input.size": "0x4"}, (3, 4, 4), "naiad.input.size", "'0x4'", "from 1 to 16384"),
        (DETECT | {"naiad.input.size": "4x20000"}, (3, -1, 4), "naiad.input.size", "'4x20000'", "16384"),
        (
            DETECT | {"naiad.input.color": "RGB"},
            (3, 4, 4),
            "naiad.input.color",
            "'RGB'",
            "bgr or rgb or gray",
        ),
        (DETECT | {"naiad.input.layout": "chw"}, (3, 4, 4), "naiad.input.layout", "'chw'", "nchw or nhwc"),
        (
            DETECT | {"naiad.input.reduced_decode": "on"},
            (3, 4, 4),
            "naiad.input.reduced_decode",
            "'on'",
            "auto or off",
        ),
        (DETECT | {"naiad.input.mean": "1,2"}, (3, 4, 4), "naiad.input.mean", "'1,2'", "one number, or 3"),
        (DETECT | {"naiad.input.mean": "nan"}, (3, 4, 4), "naiad.input.mean", "'nan'", "one number, or 3"),
        (DETECT | {"naiad.input.scale": "a"}, (3, 4, 4), "naiad.input.scale", "'a'", "one number, or 3"),
        (
            DETECT | {"naiad.input.scale": "1,0,1"},
            (3, 4, 4),
            "naiad.input.scale",
            "'1,0,1'",
            "none of them 0",
        ),
        (
            DETECT | {"naiad.detect.score_threshold": "1.5"},
            (3, 4, 4),
            "naiad.detect.score_threshold",
            "'1.5'",
            "from 0 to 1",
        ),
        (DETECT | {"naiad.detect.nms_iou": ""}, (3, 4, 4), "naiad.detect.nms_iou", "''", "from 0 to 1"),
        (DETECT | {"naiad.detect.max_faces": "0"}, (3, 4, 4), "naiad.detect.max_faces", "'0'", "from 1 to"),
        (EMBED | {"naiad.embed.alignment": "dlib"}, (3, 4, 4), "naiad.embed.alignment", "'dlib'", "arcface"),
        (
            EMBED | {"naiad.embed.normalize": "yes"},
            (3, 4, 4),
            "naiad.embed.normalize",
            "'yes'",
            "true or false",
        ),
        (EMBED | {"naiad.embed.output": "z"}, (3, 4, 4), "naiad.embed.output", "'z'", "outputs: y"),
    ],
)
def test_a_bad_value_is_named_with_its_key_and_what_is_allowed(
    parameters: dict[str, str], dims: tuple[int, ...], key: str, value: str, allowed: str
) -> None:
    message = _error(parameters, dims)
    assert message.startswith(f"{key} is ")
    assert value in message
    assert allowed in message


@pytest.mark.parametrize(
    ("parameters", "dims", "expected"),
    [
        ({"naiad.taks": "detect"}, (3, 4, 4), "unknown parameter naiad.taks: did you mean naiad.task?"),
        (
            DETECT | {"naiad.zzzzzzzzzz": "1"},
            (3, 4, 4),
            "unknown parameter naiad.zzzzzzzzzz: known keys are naiad.task, ",
        ),
        ({"naiad.head": "yunet"}, (3, 4, 4), "naiad.task is missing beside naiad.head"),
        (DETECT | {"naiad.embed.normalize": "true"}, (3, 4, 4), "naiad.embed.normalize has no meaning when"),
        (EMBED | {"naiad.detect.nms_iou": "0.4"}, (3, 4, 4), "naiad.detect.nms_iou has no meaning when"),
        (DETECT, (480, 640), "naiad.task needs an image input of 3 dims"),
        (DETECT, (2, 3, 4, 4), "naiad.task needs an image input of 3 dims"),
        (DETECT, (-1, -1, -1), "naiad.input.layout is missing and cannot be read off input 'x'"),
        (DETECT, (3, 4, 3), "naiad.input.layout is missing and cannot be read off input 'x'"),
        (DETECT, (1, 28, 28), "naiad.input.color is missing, so 'rgb' with 3 channels"),
        (DETECT | {"naiad.input.color": "gray"}, (3, 4, 4), "naiad.input.color is 'gray' with 1 channels"),
        (
            DETECT | {"naiad.input.layout": "nhwc"},
            (3, 480, 640),
            "expected another naiad.input.layout",
        ),
        (
            DETECT | {"naiad.input.size": "320x240"},
            (3, 480, 640),
            "naiad.input.size is '320x240': input 'x' (nchw [3,480,640]) takes width 640, height 480",
        ),
        (DETECT | {"naiad.input.size": "640x240"}, (3, 480, -1), "takes width any, height 480"),
        (DETECT | {"naiad.input.resize": "none"}, (3, 4, 4), "naiad.input.resize is 'none' but input 'x'"),
        (
            DETECT | {"naiad.input.resize": "none", "naiad.input.size": "4x4"},
            (3, -1, -1),
            "naiad.input.resize is 'none' but naiad.input.size is set",
        ),
        (DETECT | {"naiad.input.resize": "stretch"}, (3, -1, -1), "naiad.input.size is missing"),
        (DETECT | {"naiad.input.resize": "crop"}, (3, -1, -1), "naiad.input.size is missing"),
        (
            DETECT | {"naiad.input.resize": "crop", "naiad.input.pad": "114"},
            (3, 4, 4),
            "naiad.input.pad has no meaning when naiad.input.resize is crop: remove it",
        ),
        (
            DETECT | {"naiad.detect.coordinates": "pixels"},
            (3, 4, 4),
            "naiad.detect.coordinates has no meaning when naiad.head is yunet: remove it",
        ),
        (DETECT, (3, 480, -1), "naiad.input.size is missing"),
        (EMBED, (3, -1, -1), "naiad.embed.alignment 'arcface' warps faces to a fixed size"),
    ],
)
def test_parameters_that_contradict_each_other_or_the_model_are_refused(
    parameters: dict[str, str], dims: tuple[int, ...], expected: str
) -> None:
    assert expected in _error(parameters, dims)


def test_only_models_of_one_numeric_input_are_vision_models() -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"naiad\.task needs an image input.*TYPE_STRING \[3,4,4\]"
    ):
        _read(DETECT, (3, 4, 4), datatype=DataType.BYTES)
    inputs = tuple(TensorConfig(name, DataType.FP32, (3, 4, 4)) for name in ("a", "b"))
    with pytest.raises(InvalidArgumentError, match=r"naiad\.task is for models of one input.* has 2: a, b"):
        read_vision_config(ModelConfig("m", 0, inputs, (), parameters=DETECT))


def test_an_embedder_of_several_outputs_must_say_which() -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"naiad\.embed\.output is missing.* 2 outputs, choose a, b"
    ):
        _read(EMBED, outputs=("a", "b"))


@given(
    parameters=st.dictionaries(st.sampled_from(KEYS), st.one_of(st.text(max_size=8), st.just("none"))),
    dims=st.lists(st.integers(-1, 5), max_size=4).map(tuple),
)
def test_whatever_the_parameters_say_only_an_error_about_them_is_raised(
    parameters: dict[str, str], dims: tuple[int, ...]
) -> None:
    try:
        outcome = str(_read(parameters, dims))
    except InvalidArgumentError as error:
        outcome = error.message
    assert "naiad." in outcome or outcome.startswith(("None", "VisionConfig"))
