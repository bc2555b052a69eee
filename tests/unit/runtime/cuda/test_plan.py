"""Which tensors get fixed buffers, of what shape, and why others do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.runtime import config

from naiad.config.model_config import TensorConfig
from naiad.config.sequence_config import SequenceBatching
from naiad.config.vision_config import ColorOrder, InputConfig, Layout, Resize, Task, VisionConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import TensorSpec
from naiad.runtime.buckets import Buckets
from naiad.runtime.cuda.plan import MAX_LANE_BYTES, BindingPlan, BoundTensor, plan_binding

if TYPE_CHECKING:
    from collections.abc import Sequence

FP32 = DataType.FP32
FIXED = TensorConfig("image", FP32, (3, 8, 8))
FREE = TensorConfig("image", FP32, (3, -1, -1))
OUT = TensorConfig("out", FP32, (8,))
FIXED_SPEC = TensorSpec("image", FP32, (-1, 3, 8, 8))
FREE_SPEC = TensorSpec("image", FP32, (-1, 3, -1, -1))
OUT_SPEC = TensorSpec("out", FP32, (-1, 8))


def plan(
    tensor: TensorConfig = FIXED,
    spec: TensorSpec = FIXED_SPEC,
    outputs: Sequence[TensorSpec] = (OUT_SPEC,),
    **fields: Any,
) -> BindingPlan | str:
    """The plan of a model of one input and at most 4 batch items."""
    values: dict[str, Any] = {"max_batch_size": 4, "inputs": (tensor,), "outputs": (OUT,)} | fields
    buckets = Buckets((1, 2, 4) if values["max_batch_size"] else ())
    return plan_binding(config(**values), [spec], outputs, buckets)


def bound(planned: BindingPlan | str) -> BindingPlan:
    assert isinstance(planned, BindingPlan), planned
    return planned


def test_a_model_of_fixed_shapes_is_bound_at_each_bucket() -> None:
    planned = bound(plan())
    assert planned == BindingPlan(
        inputs=(BoundTensor("image", FP32, (3, 8, 8), batched=True),),
        outputs=(BoundTensor("out", FP32, (8,), batched=True),),
        free_outputs=(),
        sizes=(1, 2, 4),
        batched=True,
    )
    assert planned.bytes == 4 * (3 * 8 * 8 + 8) * 4
    assert planned.inputs[0].shape(2) == (2, 3, 8, 8)


def test_a_model_without_batches_is_bound_once() -> None:
    image = TensorConfig("image", FP32, (1, 3, 8, 8))
    planned = bound(
        plan(
            image,
            TensorSpec("image", FP32, (1, 3, 8, 8)),
            [TensorSpec("out", FP32, (1, 8))],
            max_batch_size=0,
        )
    )
    assert (planned.sizes, planned.batched) == ((1,), False)
    assert planned.inputs[0].shape(1) == (1, 3, 8, 8)


def test_a_reshaped_input_lies_as_the_graph_wants_it() -> None:
    reshaped = TensorConfig("image", FP32, (192,), reshape=(3, 8, 8))
    assert bound(plan(reshaped)).inputs[0].row == (3, 8, 8)


def test_the_graph_fixes_what_the_config_leaves_open() -> None:
    assert bound(plan(FREE, FIXED_SPEC)).inputs[0].row == (3, 8, 8)


def test_free_dimensions_are_named_with_what_would_fix_them() -> None:
    reason = plan(FREE, FREE_SPEC)
    assert reason == "input 'image' has any size [3, -1, -1]: naiad.cuda_shapes can name the one that comes"


def test_declared_shapes_fix_them() -> None:
    planned = bound(plan(FREE, FREE_SPEC, parameters={"naiad.cuda_shapes": "image:3x16x32"}))
    assert planned.inputs[0].row == (3, 16, 32)


def test_so_does_the_picture_size_of_a_vision_model() -> None:
    picture = InputConfig(
        tensor="image",
        resize=Resize.STRETCH,
        width=32,
        height=16,
        color=ColorOrder.RGB,
        layout=Layout.NCHW,
        mean=(0.0,) * 3,
        scale=(1.0,) * 3,
    )
    planned = bound(plan(FREE, FREE_SPEC, vision=VisionConfig(Task.DETECT, picture)))
    assert planned.inputs[0].row == (3, 16, 32)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("image", "INPUT:SIZExSIZE"),
        ("image:3x-1x8", "INPUT:SIZExSIZE"),
        ("image:3x0x8", "INPUT:SIZExSIZE"),
        ("image:", "INPUT:SIZExSIZE"),
        ("picture:3x8x8", "one of the inputs image in place of 'picture'"),
        ("image:3x8", r"fits its dims [3, -1, -1]"),
        ("image:4x8x8", r"fits its dims [3, -1, -1]"),
    ],
)
def test_wrong_declarations_are_refused_by_key_and_value(value: str, expected: str) -> None:
    with pytest.raises(InvalidArgumentError, match="'naiad.cuda_shapes' is") as caught:
        plan(FREE, FREE_SPEC, parameters={"naiad.cuda_shapes": value})
    assert f"'{value}'" in caught.value.message
    assert expected in caught.value.message


@pytest.mark.parametrize(
    "spec",
    [
        TensorSpec("out", FP32, (-1, -1)),
        TensorSpec("out", FP32, None),
        TensorSpec("out", FP32, (4, 8)),
        TensorSpec("out", FP32, ()),
    ],
    ids=["free", "unranked", "no batch first", "scalar"],
)
def test_an_output_whose_shape_only_a_run_can_tell_has_no_place(spec: TensorSpec) -> None:
    planned = bound(plan(outputs=[spec]))
    assert (planned.outputs, planned.free_outputs) == ((), ("out",))


def test_outputs_that_nobody_is_served_are_left_out() -> None:
    planned = bound(plan(outputs=[OUT_SPEC, TensorSpec("debug", FP32, (-1, 8))]))
    assert [tensor.name for tensor in planned.outputs] == ["out"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"sequence_batching": SequenceBatching()}, "its requests belong to sequences"),
        ({"inputs": (TensorConfig("image", FP32, (-1,), ragged=True),)}, "its inputs are ragged"),
        ({"inputs": (TensorConfig("image", FP32, (3,), optional=True),)}, "inputs are optional"),
        ({"inputs": (TensorConfig("image", DataType.BYTES, (3,)),)}, "input 'image' is text"),
        ({"inputs": (TensorConfig("image", FP32, (3, 0)),)}, "input 'image' is empty"),
        ({"outputs_spec": TensorSpec("out", DataType.BYTES, (-1, 8))}, "output 'out' is text"),
        ({"outputs_spec": TensorSpec("out", DataType.BF16, (-1, -1))}, "BF16 of a shape that only a run"),
    ],
)
def test_what_cannot_be_bound_is_told(fields: dict[str, Any], reason: str) -> None:
    outputs = [fields.pop("outputs_spec", OUT_SPEC)]
    told = plan(spec=TensorSpec("image", FP32, None), outputs=outputs, **fields)
    assert isinstance(told, str)
    assert reason in told


def test_buffers_are_bounded() -> None:
    side = 20_000
    large = TensorConfig("image", FP32, (side, side))
    told = plan(large, TensorSpec("image", FP32, (-1, side, side)))
    assert told == (
        f"the buffers of a lane would take {4 * (side * side + 8) * 4} bytes, the limit is {MAX_LANE_BYTES}"
    )
