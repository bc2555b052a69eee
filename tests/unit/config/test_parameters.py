"""ONNX Runtime's parameters: good values pass, bad ones are named, near misses are pointed out."""

from __future__ import annotations

import pytest

from naiad.config.parameters import list_unread, validate_parameters
from naiad.core.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("execution_mode", ["0", "1"], ["2", "", "parallel"]),
        ("intra_op_thread_count", ["1", "1024"], ["0", "-1", "1025", "four", "9" * 5000, "01", "1.0", ""]),
        ("inter_op_thread_count", ["2"], ["-2"]),
        ("enable_mem_arena", ["0", "1", "true", "False"], ["yes", "2"]),
        ("enable_mem_pattern", ["true"], ["on"]),
        ("session.use_device_allocator_for_initializers", ["1"], ["true"]),
        ("session.intra_op.spin_duration_us", ["1000"], ["1e3", "-1"]),
        ("memory.enable_memory_arena_shrinkage", ["cpu:0", "cpu:0;gpu:1"], ["cpu", "tpu:0", "cpu:0;"]),
        ("cudnn_conv_algo_search", ["0", "1", "2"], ["3"]),
        ("gpu_mem_limit", ["1073741824"], ["1G"]),
        ("arena_extend_strategy", ["0", "1"], ["2"]),
        ("do_copy_in_default_stream", ["1", "0"], ["maybe"]),
    ],
)
def test_values_are_checked_whole(key: str, good: list[str], bad: list[str]) -> None:
    for value in good:
        validate_parameters({key: value}, "m")
    for value in bad:
        with pytest.raises(InvalidArgumentError) as caught:
            validate_parameters({key: value}, "m")
        assert caught.value.message.startswith(f"parameter '{key}' of model 'm' is '{value}', expected ")


def test_foreign_and_naiad_keys_are_left_to_others() -> None:
    parameters = {"team": "vision", "naiad.task": "nonsense", "execution_mode": "0"}
    validate_parameters(parameters, "m")
    assert list_unread(parameters) == ()


def test_near_misses_and_unread_keys_of_the_engine_are_named() -> None:
    notes = list_unread(
        {
            "graph_optimization_level": "1",
            "intra_op_num_thread_count": "4",
            "intra_op_num_threads": "4",
            "memory.arena": "0",
            "session.intra_op.allow_spining": "1",
            "session.load_model_format": "ORT",
            "session.disable_prepacking": "1",
        }
    )
    assert notes == (
        "parameters 'graph_optimization_level' is not honoured: "
        "did you mean optimization { graph { level: … } }?",
        "parameters 'intra_op_num_thread_count' is not honoured: did you mean 'intra_op_thread_count'?",
        "parameters 'intra_op_num_threads' is not honoured: did you mean 'intra_op_thread_count'?",
        "parameters 'memory.arena' is not honoured: no such key is passed to ONNX Runtime",
        "parameters 'session.intra_op.allow_spining' is not honoured: "
        "did you mean 'session.intra_op.allow_spinning'?",
        "parameters 'session.load_model_format' is not honoured: no such key is passed to ONNX Runtime",
    )
