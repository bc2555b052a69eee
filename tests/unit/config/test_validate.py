"""Each rule that Triton has before loading refuses with Triton's words, and good configs pass."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from naiad.config.messages import parse_text
from naiad.config.validate import validate_config, validate_instance_groups, validate_tensors
from naiad.core.errors import InvalidArgumentError, UnsupportedError

_HEAD = 'name: "m" platform: "onnxruntime_onnx" backend: "onnxruntime" '


def _input(rest: str) -> str:
    return f'input {{ name: "x" data_type: TYPE_FP32 {rest} }}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_batch_size: -1", "'max_batch_size' must be non-negative value for m"),
        (
            "max_batch_size: 8 dynamic_batching { preferred_batch_size: 0 }",
            "dynamic batching preferred size must be positive for m",
        ),
        (
            "max_batch_size: 8 dynamic_batching { preferred_batch_size: [4, 16] }",
            "dynamic batching preferred size must be <= max batch size for m",
        ),
        (
            "dynamic_batching { priority_levels: 2 }",
            "default priority level must be in range [1, 2] for m",
        ),
        (
            (
                "dynamic_batching { priority_levels: 2 default_priority_level: 1 "
                "priority_queue_policy { key: 3 value {} } }"
            ),
            "priority queue policy must have priority level in range [1, 2] for m",
        ),
        (
            "dynamic_batching { preserve_ordering: true priority_levels: 2 default_priority_level: 1 }",
            "Only one priority level is allowed when 'preserve_ordering' is true for m",
        ),
        (
            (
                "dynamic_batching { preserve_ordering: true default_queue_policy "
                "{ timeout_action: DELAY default_timeout_microseconds: 1 } }"
            ),
            "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for m",
        ),
        ("input { data_type: TYPE_FP32 dims: 1 }", "model input must specify 'name' for m"),
        ('output { name: "y" dims: 1 }', "model output 'y' must specify 'data_type' for m"),
        (_input(""), "model input 'x' must specify 'dims' for m"),
        (
            _input("dims: [3, 0]"),
            "model input 'x' dimension must be integer >= 1, or -1 to indicate a variable-size dimension",
        ),
        (_input("dims: [3, 2] format: FORMAT_NCHW"), "model input NHWC/NCHW require 3 dims for m"),
        (_input("dims: 1 reshape { shape: [] }"), "cannot have empty reshape for non-batching model"),
        (_input("dims: 1 reshape { shape: [0] }"), "reshape dimensions must be integer >= 1"),
        (
            _input("dims: [2, 3] reshape { shape: [7] }"),
            "has different size for dims and reshape: dims [2,3]",
        ),
        (_input("dims: [-1, 3] reshape { shape: [-1, 4] }"), "has different size for dims and reshape"),
        (_input("dims: [-1, 3] reshape { shape: [3] }"), "has different size for dims and reshape"),
        (
            _input("dims: [-1, -1] reshape { shape: [-1] }"),
            "has different number of variable-size dimensions for dims and reshape",
        ),
        (_input("dims: 1 is_shape_tensor: true"), "shape tensors are only supported for TensorRT platform"),
        (
            _input("dims: 1 is_non_linear_format_io: true"),
            "Non-linear IO format is only supported for the TensorRT platform",
        ),
        (_input("dims: 1") + _input("dims: 1"), "model input 'x' is specified more than once for m"),
    ],
)
def test_a_broken_rule_is_refused_in_tritons_words(text: str, expected: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        validate_config(parse_text(_HEAD + text, "here"), "m")
    assert expected in caught.value.message
    assert caught.value.message.endswith("for m")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('name: "m" platform: "onnxruntime_onyx"', "unexpected platform type 'onnxruntime_onyx' for m"),
        (
            'name: "m" platform: "tensorrt_plan" backend: "onnxruntime"',
            "unexpected 'platform' and 'backend' pair, got:tensorrt_plan, onnxruntime",
        ),
        (
            'name: "other" platform: "onnxruntime_onnx" backend: "onnxruntime"',
            "unexpected directory name 'm' for model 'other', directory name must equal model name",
        ),
    ],
)
def test_a_config_for_something_else_is_refused(text: str, expected: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        validate_config(parse_text(text, "here"), "m")
    assert caught.value.message == expected


@pytest.mark.parametrize(
    "text",
    [
        "max_batch_size: 8 dynamic_batching { preferred_batch_size: [4, 8] }",
        _input("dims: [3, 224, -1] format: FORMAT_NHWC"),
        _input("dims: [2, 4, -1, 6] reshape { shape: [8, -1, 1, 6] }"),
        "max_batch_size: 1 " + _input("dims: [1] reshape { shape: [] }"),
        _input("dims: 1") + 'output { name: "x" data_type: TYPE_BF16 dims: -1 label_filename: "a/b.txt" }',
    ],
)
def test_a_good_config_passes(text: str) -> None:
    validate_config(parse_text(_HEAD + text, "here"), "m")


@given(dims=st.lists(st.sampled_from([-1, 1, 2, 3]), min_size=1, max_size=5))
def test_dims_reshaped_to_themselves_with_ones_between_always_pass(dims: list[int]) -> None:
    """Dimensions of one change no element count, so such a reshape is legal whatever the dims are."""
    reshape = ", ".join(f"1, {dim}" for dim in dims)
    validate_tensors(parse_text(_input(f"dims: {dims} reshape {{ shape: [{reshape}] }}"), "here"))


@pytest.mark.parametrize("path", ["../labels.txt", "/etc/passwd", "a/../../labels.txt"])
def test_a_label_file_outside_the_folder_is_refused(path: str) -> None:
    text = f'output {{ name: "y" data_type: TYPE_FP32 dims: 1 label_filename: "{path}" }}'
    with pytest.raises(UnsupportedError, match="is outside model directory"):
        validate_tensors(parse_text(text, "here"))


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("kind: KIND_CPU gpus: 0", "has kind KIND_CPU but specifies one or more GPUs"),
        ("kind: KIND_MODEL gpus: 0", "has kind KIND_MODEL but specifies one or more GPUs"),
        ('kind: KIND_GPU profile: "0"', "only supported for TensorRT models"),
        ("count: -1", "has count -1"),
    ],
)
def test_a_contradictory_instance_group_is_refused(group: str, expected: str) -> None:
    message = parse_text(f'name: "m" instance_group {{ name: "g" {group} }}', "here")
    with pytest.raises(InvalidArgumentError, match=expected) as caught:
        validate_instance_groups(message)
    assert caught.value.message.startswith("instance group g of model m")


@pytest.mark.parametrize("groups", [[257], [128, 129], [1] * 257, [2**31 - 1]])
def test_more_instances_than_a_machine_can_hold_are_refused(groups: list[int]) -> None:
    """Each is a thread: a load request must not be able to ask for two billion of them."""
    text = 'name: "m" ' + " ".join(f"instance_group {{ count: {count} }}" for count in groups)
    with pytest.raises(InvalidArgumentError, match=f"have {sum(groups)} instances, at most 256 are served"):
        validate_instance_groups(parse_text(text, "here"))


def test_as_many_instances_as_may_be_are_taken() -> None:
    validate_instance_groups(parse_text('name: "m" instance_group { count: 256 }', "here"))
