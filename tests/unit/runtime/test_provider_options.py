"""Each accelerator parameter becomes the provider's option that Triton would set."""

from __future__ import annotations

import pytest

from naiad.core.errors import InvalidArgumentError, UnsupportedError
from naiad.runtime.provider_options import cuda_options, tensorrt_options


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("precision_mode", "FP32", {}),
        ("precision_mode", "fp16", {"trt_fp16_enable": "1"}),
        ("precision_mode", "BF16", {"trt_bf16_enable": "1"}),
        ("precision_mode", "INT8", {"trt_int8_enable": "1"}),
        ("max_workspace_size_bytes", "1073741824", {"trt_max_workspace_size": "1073741824"}),
        (
            "int8_calibration_table_name",
            "t.flatbuffers",
            {"trt_int8_calibration_table_name": "t.flatbuffers"},
        ),
        ("int8_use_native_calibration_table", "1", {"trt_int8_use_native_calibration_table": "1"}),
        ("trt_engine_cache_enable", "1", {"trt_engine_cache_enable": "1"}),
        ("trt_engine_cache_path", "/cache", {"trt_engine_cache_path": "/cache"}),
        ("trt_profile_opt_shapes", "x:8x3x640x640", {"trt_profile_opt_shapes": "x:8x3x640x640"}),
        ("trt_ep_context_embed_mode", "0", {"trt_ep_context_embed_mode": "0"}),
    ],
)
def test_tensorrt_parameter(key: str, value: str, expected: dict[str, str]) -> None:
    assert tensorrt_options({key: value}, gpu=1) == {"device_id": "1", **expected}


def test_tensorrt_unknown_key_gets_tritons_text() -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"^unknown parameter 'trt_magic' is provided for TensorRT Execution Accel"
    ):
        tensorrt_options({"trt_magic": "1"}, gpu=0)


def test_tensorrt_unknown_precision_names_value_and_choices() -> None:
    with pytest.raises(InvalidArgumentError, match="'FP4' is requested, expected one of FP32, FP16"):
        tensorrt_options({"precision_mode": "FP4"}, gpu=0)


def test_a_config_cannot_load_plugins() -> None:
    with pytest.raises(UnsupportedError, match=r"trt_extra_plugin_lib_paths.*evil\.so"):
        tensorrt_options({"trt_extra_plugin_lib_paths": "/tmp/evil.so"}, gpu=0)


def test_cuda_defaults_avoid_the_exhaustive_search() -> None:
    assert cuda_options({}, {}, gpu=2) == {
        "device_id": "2",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
    }


@pytest.mark.parametrize(
    ("key", "value", "option"),
    [
        ("cudnn_conv_algo_search", "0", "EXHAUSTIVE"),
        ("cudnn_conv_algo_search", "2", "DEFAULT"),
        ("arena_extend_strategy", "0", "kNextPowerOfTwo"),
        ("arena_extend_strategy", "1", "kSameAsRequested"),
        ("do_copy_in_default_stream", "0", "0"),
        ("do_copy_in_default_stream", "True", "1"),
        ("gpu_mem_limit", "1000000", "1000000"),
    ],
)
def test_cuda_deprecated_parameter(key: str, value: str, option: str) -> None:
    assert cuda_options({}, {key: value}, gpu=0)[key] == option


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cudnn_conv_algo_search", "3"),
        ("arena_extend_strategy", "x"),
        ("do_copy_in_default_stream", "2"),
        ("gpu_mem_limit", "-1"),
        ("gpu_mem_limit", "2GB"),
    ],
)
def test_cuda_deprecated_parameter_out_of_range(key: str, value: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"'{key}' is '{value}', expected"):
        cuda_options({}, {key: value}, gpu=0)


def test_cuda_accelerator_is_handed_on_and_wins_over_deprecated_parameters() -> None:
    options = cuda_options(
        {"cudnn_conv_algo_search": "EXHAUSTIVE", "tunable_op_enable": "1"},
        {"cudnn_conv_algo_search": "2"},
        gpu=0,
    )
    assert options["cudnn_conv_algo_search"] == "EXHAUSTIVE"
    assert options["tunable_op_enable"] == "1"


def test_cuda_device_is_the_instance_groups() -> None:
    assert cuda_options({"device_id": "7"}, {}, gpu=1)["device_id"] == "1"


def test_cuda_addresses_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="user_compute_stream"):
        cuda_options({"user_compute_stream": "140000000"}, {}, gpu=0)
