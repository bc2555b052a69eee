"""Lanes and graphs as a config asks for them, and what rules them out before a session is open."""

from __future__ import annotations

from typing import Any

import pytest
from support.runtime import config

from naiad.config.model_config import Accelerator, InstanceGroup, InstanceKind, TensorConfig
from naiad.config.ragged_config import BatchInput, BatchInputKind
from naiad.config.rate_config import RateLimit
from naiad.config.sequence_config import SequenceBatching
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.runtime.cuda.graph_options import captures_graphs, with_cuda_graphs
from naiad.runtime.cuda.settings import (
    CudaSettings,
    GraphMode,
    check_cuda_settings,
    list_unused,
    read_cuda_settings,
)
from naiad.runtime.providers import CPU, CUDA, TENSORRT, Provider

FP32 = DataType.FP32


def read(parameters: dict[str, str] | None = None, **fields: Any) -> CudaSettings:
    return read_cuda_settings(config(parameters=parameters or {}, **fields))


def test_by_default_two_lanes_and_graphs_where_they_can() -> None:
    assert read() == CudaSettings(lanes=2, graphs=GraphMode.AUTO)


@pytest.mark.parametrize("lanes", [1, 4])
def test_lanes(lanes: int) -> None:
    assert read({"naiad.gpu_lanes": str(lanes)}).lanes == lanes


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("naiad.gpu_lanes", "0"),
        ("naiad.gpu_lanes", "5"),
        ("naiad.gpu_lanes", "two"),
        ("naiad.cuda_graphs", "yes"),
        ("naiad.cuda_graphs", ""),
        ("naiad.batch_buckets", "0"),
        ("naiad.cuda_shapes", "x"),
    ],
)
def test_a_wrong_value_is_refused_on_every_machine(key: str, value: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"'{key}' is '{value}', expected"):
        check_cuda_settings(config(max_batch_size=4, parameters={key: value}))


def test_instances_that_must_be_counted_one_by_one_have_one_lane() -> None:
    assert read(sequence_batching=SequenceBatching()).lanes == 1
    limited = InstanceGroup("g", InstanceKind.GPU, 1, rate_limit=RateLimit())
    assert read(instance_groups=(limited,)).lanes == 1


@pytest.mark.parametrize(
    ("value", "mode"), [("auto", GraphMode.AUTO), ("on", GraphMode.ON), ("off", GraphMode.OFF)]
)
def test_graphs_as_the_config_says(value: str, mode: GraphMode) -> None:
    assert read({"naiad.cuda_graphs": value}).graphs is mode


@pytest.mark.parametrize(("value", "mode"), [("1", GraphMode.ON), ("0", GraphMode.OFF)])
def test_the_accelerators_own_word_means_the_same_unless_ours_is_there(value: str, mode: GraphMode) -> None:
    cuda = (Accelerator("cuda", {"enable_cuda_graph": value}),)
    assert read(gpu_accelerators=cuda).graphs is mode
    assert read({"naiad.cuda_graphs": "auto"}, gpu_accelerators=cuda).graphs is GraphMode.AUTO


def test_the_accelerators_own_word_is_checked() -> None:
    cuda = (Accelerator("cuda", {"enable_cuda_graph": "maybe"}),)
    with pytest.raises(InvalidArgumentError, match="'enable_cuda_graph' is 'maybe', expected 0 or 1"):
        read(gpu_accelerators=cuda)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"sequence_batching": SequenceBatching()}, "sequence model"),
        ({"inputs": (TensorConfig("x", FP32, (-1,), ragged=True),)}, "ragged"),
        ({"batch_inputs": (BatchInput(BatchInputKind.ELEMENT_COUNT, ("n",), FP32, "x"),)}, "ragged"),
        ({"inputs": (TensorConfig("x", DataType.BYTES, (1,)),)}, "text"),
        ({"outputs": (TensorConfig("x", DataType.BYTES, (1,)),)}, "text"),
        ({"inputs": (TensorConfig("x", FP32, (1,), optional=True),)}, "optional"),
    ],
)
def test_what_rules_graphs_out_is_told_to_whoever_asked_for_them(fields: dict[str, Any], reason: str) -> None:
    asked = read({"naiad.cuda_graphs": "on"}, **fields)
    assert asked.graphs is GraphMode.OFF
    assert reason in asked.note
    assert read(**fields) == CudaSettings(asked.lanes, GraphMode.OFF)


def test_an_arena_that_shrinks_on_the_gpu_rules_graphs_out() -> None:
    """A graph writes to the addresses of its capture, whoever owns them by then."""
    key = "memory.enable_memory_arena_shrinkage"
    assert read({key: "cpu:0;gpu:0"}).graphs is GraphMode.OFF
    assert read({key: "cpu:0"}).graphs is GraphMode.AUTO


def test_keys_without_effect_on_the_cpu_are_named() -> None:
    [sentence] = list_unused(config(parameters={"naiad.gpu_lanes": "2", "naiad.task": "detect"}))
    assert sentence == "the parameter 'naiad.gpu_lanes' has no effect: no instance runs on a GPU"


def test_graphs_are_an_option_of_cuda_alone() -> None:
    providers = [Provider(TENSORRT), Provider(CUDA, {"device_id": "1"}), Provider(CPU)]
    assert [dict(each.options) for each in with_cuda_graphs(providers)] == [
        {},
        {"device_id": "1", "enable_cuda_graph": "1"},
        {},
    ]


@pytest.mark.parametrize(
    ("options", "captures"),
    [
        ({CPU: {}}, False),
        ({CUDA: {"enable_cuda_graph": "0"}, CPU: {}}, False),
        ({CUDA: {"enable_cuda_graph": "1"}, CPU: {}}, True),
        ({TENSORRT: {"trt_cuda_graph_enable": "1"}, CUDA: {"enable_cuda_graph": "0"}}, True),
    ],
)
def test_whether_a_session_captures(options: dict[str, dict[str, str]], *, captures: bool) -> None:
    """Every run of such a session that is not bound must forbid it."""
    assert captures_graphs(options) is captures
