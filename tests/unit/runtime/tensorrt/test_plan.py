"""An engine's profiles come from buckets, fixed dims and declared ranges; what cannot be an engine says why."""

from __future__ import annotations

from typing import Any

import pytest
from support.runtime import config

from naiad.config.model_config import DynamicBatching, ModelConfig, TensorConfig
from naiad.config.sequence_config import DirectStrategy, SequenceBatching
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError, UnsupportedError
from naiad.core.tensors import TensorSpec
from naiad.runtime.tensorrt.options import Precision
from naiad.runtime.tensorrt.plan import plan_engine, read_build_mode
from naiad.runtime.tensorrt.shapes import ShapeRange

FP32 = DataType.FP32
IMAGE = TensorConfig("image", FP32, (3, 8, 8))
OUTPUT = TensorConfig("out", FP32, (4,))
GRAPH = (TensorSpec("image", FP32, (-1, 3, 8, 8)),)
ANY_SIZE = (TensorSpec("image", FP32, (-1, 3, -1, -1)),)


def batched(**fields: Any) -> ModelConfig:
    return config(**({"max_batch_size": 8, "inputs": (IMAGE,), "outputs": (OUTPUT,)} | fields))


def profiles(options: Any) -> list[str | None]:
    return [options.get(f"trt_profile_{which}_shapes") for which in ("min", "opt", "max")]


def test_the_batch_dimension_spans_the_buckets() -> None:
    plan = plan_engine(batched(), GRAPH, {"device_id": "0"})
    assert profiles(plan.options) == ["image:1x3x8x8", "image:8x3x8x8", "image:8x3x8x8"]
    assert plan.options["device_id"] == "0"
    assert plan.batch_sizes == (1, 2, 4, 8)
    assert not plan.blocking


def test_it_is_tuned_for_the_largest_preferred_batch() -> None:
    plan = plan_engine(
        batched(dynamic_batching=DynamicBatching(preferred_batch_sizes=(2, 4))), GRAPH, {"device_id": "0"}
    )
    assert profiles(plan.options)[1] == "image:4x3x8x8"


def test_named_buckets_are_what_is_warmed() -> None:
    plan = plan_engine(batched(parameters={"naiad.batch_buckets": "3,8"}), GRAPH, {})
    assert plan.batch_sizes == (3, 8)


def test_the_configs_dims_fix_what_the_graph_leaves_open() -> None:
    assert profiles(plan_engine(batched(), ANY_SIZE, {}).options)[0] == "image:1x3x8x8"


def test_a_graph_of_fixed_shapes_needs_no_profile() -> None:
    fixed = (TensorSpec("image", FP32, (1, 3, 8, 8)),)
    plan = plan_engine(config(inputs=(TensorConfig("image", FP32, (1, 3, 8, 8)),)), fixed, {})
    assert profiles(plan.options) == [None, None, None]
    assert plan.batch_sizes == (1,)


def test_declared_ranges_of_two_inputs() -> None:
    """Each input with a dynamic dimension has a profile: the engine refuses to build with one missing."""
    inputs = (TensorConfig("image", FP32, (3, -1, -1)), TensorConfig("scale", FP32, (1,)))
    specs = (*ANY_SIZE, TensorSpec("scale", FP32, (-1, 1)))
    plan = plan_engine(
        batched(inputs=inputs, parameters={"naiad.tensorrt_shapes": "image:3x16x16/3x32x32/3x64x48"}),
        specs,
        {},
    )
    assert profiles(plan.options) == [
        "image:1x3x16x16,scale:1x1",
        "image:8x3x32x32,scale:8x1",
        "image:8x3x64x48,scale:8x1",
    ]
    assert plan.declared == {"image": ShapeRange((3, 16, 16), (3, 32, 32), (3, 64, 48))}


def test_without_a_range_the_note_says_what_to_declare() -> None:
    with pytest.raises(UnsupportedError) as caught:
        plan_engine(batched(inputs=(TensorConfig("image", FP32, (3, -1, -1)),)), ANY_SIZE, {})
    assert 'key: "naiad.tensorrt_shapes"' in caught.value.message
    assert "image:3x?x?/3x?x?/3x?x?" in caught.value.message


def test_a_configs_own_profiles_are_kept_whole() -> None:
    own = {f"trt_profile_{which}_shapes": "image:2x3x8x8" for which in ("min", "opt", "max")}
    plan = plan_engine(batched(inputs=(TensorConfig("image", FP32, (3, -1, -1)),)), ANY_SIZE, own)
    assert plan.options == own
    with pytest.raises(
        InvalidArgumentError, match="trt_profile_min_shapes is set without trt_profile_opt_shapes"
    ):
        plan_engine(batched(), GRAPH, {"trt_profile_min_shapes": "image:1x3x8x8"})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"sequence_batching": SequenceBatching(strategy=DirectStrategy())}, "sequence model"),
        ({"inputs": (TensorConfig("image", DataType.BYTES, (1,)),)}, "TensorRT has no text"),
        ({"outputs": (TensorConfig("out", DataType.BYTES, (1,)),)}, "TensorRT has no text"),
        ({"inputs": (TensorConfig("image", FP32, (3, 8, 8), ragged=True),)}, "ragged inputs"),
        ({"inputs": (TensorConfig("image", FP32, (3, 8, 8), optional=True),)}, "optional inputs"),
        ({"inputs": (TensorConfig("image", FP32, (3, 8)),)}, "has dims [3, 8] and the graph"),
        ({"inputs": (TensorConfig("other", FP32, (3, 8, 8)),)}, "'image' is not in the config"),
    ],
)
def test_what_no_engine_is_built_for_says_why(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        plan_engine(batched(**fields), GRAPH, {})
    assert reason in caught.value.message


def test_an_input_of_unknown_rank_says_why() -> None:
    with pytest.raises(UnsupportedError, match="does not say how many dimensions input 'image' has"):
        plan_engine(batched(), (TensorSpec("image", FP32, None),), {})


def test_precision_and_mode_are_the_configs() -> None:
    plan = plan_engine(
        batched(parameters={"naiad.tensorrt_build": "blocking"}), GRAPH, {"trt_fp16_enable": "True"}
    )
    assert (plan.precision, plan.blocking) == (Precision.FP16, True)


def test_another_mode_is_refused_with_the_key() -> None:
    with pytest.raises(
        InvalidArgumentError, match="'naiad.tensorrt_build' is 'later', expected background or"
    ):
        read_build_mode(config(parameters={"naiad.tensorrt_build": "later"}))
