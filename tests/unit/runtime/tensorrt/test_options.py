"""Each parameter of the `tensorrt` accelerator becomes the option that Triton would set, its value checked."""

from __future__ import annotations

import pytest

from naiad.core.errors import InvalidArgumentError, UnsupportedError
from naiad.runtime.tensorrt.options import (
    Precision,
    cache_options,
    file_notes,
    read_precision,
    tensorrt_options,
    without_files,
)

SHAPES = "x:1x3x320x320,y:0:1x5"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("precision_mode", "FP32", {}),
        ("precision_mode", "fp16", {"trt_fp16_enable": "True"}),
        ("precision_mode", "BF16", {"trt_bf16_enable": "True"}),
        ("precision_mode", "INT8", {"trt_int8_enable": "True"}),
        ("max_workspace_size_bytes", "1073741824", {"trt_max_workspace_size": "1073741824"}),
        ("int8_calibration_table_name", "t.table", {"trt_int8_calibration_table_name": "t.table"}),
        ("int8_use_native_calibration_table", "1", {"trt_int8_use_native_calibration_table": "True"}),
        ("trt_max_partition_iterations", "1000", {"trt_max_partition_iterations": "1000"}),
        ("trt_min_subgraph_size", "5", {"trt_min_subgraph_size": "5"}),
        ("trt_dla_enable", "0", {"trt_dla_enable": "False"}),
        ("trt_dla_core", "1", {"trt_dla_core": "1"}),
        ("trt_engine_cache_enable", "true", {"trt_engine_cache_enable": "True"}),
        ("trt_engine_cache_path", "/cache", {"trt_engine_cache_path": "/cache"}),
        ("trt_engine_cache_prefix", "faces", {"trt_engine_cache_prefix": "faces"}),
        ("trt_dump_subgraphs", "1", {"trt_dump_subgraphs": "True"}),
        ("trt_force_sequential_engine_build", "1", {"trt_force_sequential_engine_build": "True"}),
        ("trt_context_memory_sharing_enable", "1", {"trt_context_memory_sharing_enable": "True"}),
        ("trt_layer_norm_fp32_fallback", "1", {"trt_layer_norm_fp32_fallback": "True"}),
        ("trt_timing_cache_enable", "False", {"trt_timing_cache_enable": "False"}),
        ("trt_timing_cache_path", "/cache", {"trt_timing_cache_path": "/cache"}),
        ("trt_force_timing_cache", "1", {"trt_force_timing_cache": "True"}),
        ("trt_detailed_build_log", "1", {"trt_detailed_build_log": "True"}),
        ("trt_build_heuristics_enable", "1", {"trt_build_heuristics_enable": "True"}),
        ("trt_sparsity_enable", "1", {"trt_sparsity_enable": "True"}),
        ("trt_builder_optimization_level", "3", {"trt_builder_optimization_level": "3"}),
        ("trt_auxiliary_streams", "-1", {"trt_auxiliary_streams": "-1"}),
        ("trt_tactic_sources", "-CUDNN,+CUBLAS", {"trt_tactic_sources": "-CUDNN,+CUBLAS"}),
        ("trt_profile_min_shapes", SHAPES, {"trt_profile_min_shapes": SHAPES}),
        ("trt_profile_max_shapes", SHAPES, {"trt_profile_max_shapes": SHAPES}),
        ("trt_profile_opt_shapes", SHAPES, {"trt_profile_opt_shapes": SHAPES}),
        ("trt_cuda_graph_enable", "1", {"trt_cuda_graph_enable": "True"}),
        ("trt_dump_ep_context_model", "1", {"trt_dump_ep_context_model": "True"}),
        ("trt_ep_context_file_path", "/c", {"trt_ep_context_file_path": "/c"}),
        ("trt_ep_context_embed_mode", "0", {"trt_ep_context_embed_mode": "0"}),
        ("trt_tactic_sources", "", {}),
    ],
)
def test_parameter(key: str, value: str, expected: dict[str, str]) -> None:
    """Booleans are the words that the engine's Python binding takes; an empty value is none, as in Triton."""
    assert tensorrt_options({key: value}, gpu=1) == {"device_id": "1", **expected}


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("max_workspace_size_bytes", "1GB", "a whole number from 0"),
        ("max_workspace_size_bytes", "-1", "a whole number from 0"),
        ("trt_builder_optimization_level", "6", "from 0 to 5"),
        ("trt_min_subgraph_size", "one", "a whole number"),
        ("trt_engine_cache_enable", "yes", "0, 1, true or false"),
        ("trt_engine_cache_prefix", "../up", "a plain name"),
        ("int8_calibration_table_name", "/etc/table", "a plain name"),
        ("trt_profile_min_shapes", "x=1x3", "NAME:DIMxDIM"),
        ("trt_ep_context_embed_mode", "2", "from 0 to 1"),
        ("trt_tactic_sources", "a\0b", "text"),
    ],
)
def test_a_value_of_another_type_is_refused_with_key_and_value(key: str, value: str, allowed: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        tensorrt_options({key: value}, gpu=0)
    for part in (f"'{key}'", f"'{value}'", allowed):
        assert part in caught.value.message


def test_an_unknown_key_gets_tritons_text() -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"^unknown parameter 'trt_magic' is provided for TensorRT Execution Accel"
    ):
        tensorrt_options({"trt_magic": "1"}, gpu=0)


def test_an_unknown_precision_names_value_and_choices() -> None:
    with pytest.raises(InvalidArgumentError, match="'FP4' is requested, expected one of FP32, FP16"):
        tensorrt_options({"precision_mode": "FP4"}, gpu=0)


def test_a_config_cannot_load_plugins() -> None:
    with pytest.raises(UnsupportedError, match=r"trt_extra_plugin_lib_paths.*evil\.so"):
        tensorrt_options({"trt_extra_plugin_lib_paths": "/tmp/evil.so"}, gpu=0)


@pytest.mark.parametrize("precision", list(Precision))
def test_the_precision_can_be_read_back(precision: Precision) -> None:
    """It decides how near an engine's answers must be to CUDA's."""
    assert read_precision(tensorrt_options({"precision_mode": precision.value}, gpu=0)) is precision


def test_files_are_not_a_configs_to_choose_and_each_is_named() -> None:
    """A config may come from a caller, and an engine from a file is code."""
    options = tensorrt_options(
        {
            "trt_engine_cache_path": "/tmp/mine",
            "trt_dump_subgraphs": "1",
            "trt_dump_ep_context_model": "0",
            "trt_builder_optimization_level": "5",
        },
        gpu=0,
    )
    assert without_files(options) == {"device_id": "0", "trt_builder_optimization_level": "5"}
    path, dump = file_notes(options)
    assert "trt_engine_cache_path=/tmp/mine is not honoured" in path
    assert "--tensorrt-cache-directory" in path
    assert "trt_dump_subgraphs=True is not honoured" in dump


def test_caches_are_on_with_a_folder_and_off_without() -> None:
    assert cache_options("/e", None) == {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": "/e",
        "trt_timing_cache_enable": "False",
    }
