"""Each accelerator parameter becomes the provider's option that Triton would set."""

from __future__ import annotations

import pytest

from naiad.core.errors import InvalidArgumentError, UnsupportedError
from naiad.runtime.provider_options import cuda_options


def test_cuda_defaults_avoid_the_exhaustive_search() -> None:
    assert cuda_options({}, {}, gpu=2) == {
        "device_id": "2",
        "cudnn_conv_algo_search": "HEURISTIC",
        "cudnn_conv_use_max_workspace": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "do_copy_in_default_stream": "1",
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


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("cudnn_conv_algo_search", "FASTEST", "one of EXHAUSTIVE, HEURISTIC, DEFAULT"),
        ("arena_extend_strategy", "1", "one of kNextPowerOfTwo, kSameAsRequested"),
        ("gpu_mem_limit", "-5", "a whole number, 0 or above"),
        ("gpu_mem_limit", "2GB", "a whole number, 0 or above"),
        ("use_tf32", "yes", "0, 1, true or false"),
        ("prefer_nhwc", "", "0, 1, true or false"),
    ],
)
def test_a_wrong_cuda_option_is_refused_on_every_machine(key: str, value: str, expected: str) -> None:
    with pytest.raises(
        InvalidArgumentError, match=f"CUDA parameter '{key}' is '{value}', expected {expected}"
    ):
        cuda_options({key: value}, {}, gpu=0)


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
