"""The samples of `model_warmup`: what is taken over, what is skipped, and what is refused in Triton's words."""

from __future__ import annotations

import pytest

from naiad.config.messages import parse_text
from naiad.config.warmup_config import MAX_RUNS, WarmupData, WarmupInput, WarmupSample, read_warmup
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError

ZEROS = 'inputs { key: "X" value { data_type: TYPE_FP32 dims: [ 2, 3 ] zero_data: true } }'


def read(*samples: str) -> tuple[WarmupSample, ...]:
    blocks = " ".join(f"model_warmup {{ {sample} }}" for sample in samples)
    return read_warmup(parse_text(f'name: "m" {blocks}', "test"))


def test_every_field_is_taken_over_and_the_inputs_are_sorted() -> None:
    (sample,) = read(
        'name: "all" batch_size: 4 count: 3 '
        'inputs { key: "Z" value { data_type: TYPE_STRING dims: [ 1 ] input_data_file: "texts" } } '
        'inputs { key: "Y" value { data_type: TYPE_INT64 dims: [] random_data: true } } ' + ZEROS
    )
    assert sample == WarmupSample(
        "all",
        4,
        3,
        (
            WarmupInput("X", DataType.FP32, (2, 3), WarmupData.ZERO),
            WarmupInput("Y", DataType.INT64, (), WarmupData.RANDOM),
            WarmupInput("Z", DataType.BYTES, (1,), WarmupData.FILE, "texts"),
        ),
    )
    assert [tensor.elements for tensor in sample.inputs] == [6, 1, 1]


def test_a_sample_without_a_batch_size_is_skipped_and_one_without_a_count_runs_once() -> None:
    (sample,) = read('name: "skipped" ' + ZEROS, 'name: "once" batch_size: 1 ' + ZEROS)
    assert (sample.name, sample.count) == ("once", 1)


def test_what_a_skipped_sample_says_does_not_matter() -> None:
    assert read('inputs { key: "X" value { dims: [ -1 ] } }') == ()


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (
            "data_type: TYPE_FP32 dims: [ 2, -1 ] zero_data: true",
            "warmup setting expects all variable-size dimensions are specified for input 'X'",
        ),
        (
            "data_type: TYPE_FP32 dims: [ 2 ]",
            "[request id: <id_unknown>] warmup setting expects input 'X' to have input_data_type set",
        ),
        ("dims: [ 2 ] zero_data: true", "warmup setting of input 'X' must specify 'data_type' for m"),
        (
            "data_type: TYPE_FP32 dims: [ -2 ] zero_data: true",
            "warmup setting of input 'X' has dims [-2]",
        ),
    ],
)
def test_an_input_that_says_too_little_is_refused(tensor: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        read(f'batch_size: 1 inputs {{ key: "X" value {{ {tensor} }} }}')
    assert caught.value.message == message


def test_more_runs_than_a_load_may_take_are_refused_with_the_limit() -> None:
    read(f"batch_size: 1 count: {MAX_RUNS} {ZEROS}")
    with pytest.raises(InvalidArgumentError, match=f"count {MAX_RUNS + 1}, at most {MAX_RUNS}"):
        read(f'name: "long" batch_size: 1 count: {MAX_RUNS + 1} {ZEROS}')
