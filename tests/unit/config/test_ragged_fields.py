"""`batch_input` and `batch_output`: what they mean, and Triton's refusals of them in its words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from naiad.config.ragged_config import BatchInput, BatchInputKind, BatchOutput
from naiad.config.reader import parse_config_override, read_model_config
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TENSORS = """
max_batch_size: 4
input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] } ]
"""


def batch_input(kind: str = "BATCH_ELEMENT_COUNT", rest: str = 'source_input: "IN"') -> str:
    return f'{TENSORS} batch_input {{ kind: {kind} target_name: "N" data_type: TYPE_INT32 {rest} }}'


@pytest.mark.parametrize("kind", BatchInputKind)
def test_every_kind_is_read(kind: BatchInputKind, model_folder: Callable[..., Path]) -> None:
    text = batch_input(kind.value, 'source_input: "IN" target_name: "M"')
    config = read_model_config(model_folder(text))
    assert config.inputs[0].ragged
    assert config.batch_inputs == (BatchInput(kind, ("N", "M"), DataType.INT32, "IN"),)
    assert config.warnings == ()


def test_a_batch_output_is_read(model_folder: Callable[..., Path]) -> None:
    text = TENSORS + 'batch_output { target_name: "OUT" source_input: "IN" }'
    config = read_model_config(model_folder(text))
    assert config.batch_outputs == (BatchOutput(("OUT",), "IN"),)


COUNT = "batch input kind 'BATCH_ELEMENT_COUNT'"
SCATTER = "batch output kind 'BATCH_SCATTER_WITH_INPUT_SHAPE'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (batch_input(rest=""), f"{COUNT} expects 1 source input, got 0 for model"),
        (
            batch_input(rest='source_input: ["IN", "IN"]'),
            f"{COUNT} expects 1 source input, got 2 for model",
        ),
        (batch_input(rest='source_input: "X"'), "unknown source input name 'X' for model"),
        (
            TENSORS + 'batch_input { target_name: "N" data_type: TYPE_INT64 source_input: "IN" }',
            "batch input data type must be TYPE_INT32 or TYPE_FP32 for model",
        ),
        (
            TENSORS + 'batch_input { data_type: TYPE_INT32 source_input: "IN" }',
            f"{COUNT} must specify 'target_name' for model",
        ),
        (
            batch_input(rest='source_input: "IN" target_name: "IN"'),
            "target input name 'IN' can only be specified once for model",
        ),
        (
            TENSORS + 'batch_output { target_name: "OUT" }',
            f"{SCATTER} expects 1 source input, got 0 for model",
        ),
        (
            TENSORS + 'batch_output { target_name: "OUT" source_input: "X" }',
            "unknown source input name 'X' for model",
        ),
        (
            TENSORS + 'batch_output { target_name: "X" source_input: "IN" }',
            "unknown target output name 'X' for model",
        ),
        (
            TENSORS + 'batch_output { target_name: ["OUT", "OUT"] source_input: "IN" }',
            "target output name 'OUT' can only be specified once for model",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, message: str, model_folder: Callable[..., Path]) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        read_model_config(model_folder(text))
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("field", "what"),
    [
        ('"batch_input": [{"kind": 9, "target_name": ["N"], "data_type": "TYPE_INT32"}]', "input"),
        ('"batch_output": [{"kind": 9, "target_name": ["OUT"]}]', "output"),
    ],
)
def test_a_kind_that_json_numbers_wrongly_is_refused(
    field: str, what: str, model_folder: Callable[..., Path]
) -> None:
    with pytest.raises(InvalidArgumentError, match=f"unknown batch {what} kind '9' for model"):
        parse_config_override(f'{{"backend": "onnxruntime", {field}}}', model_folder(None))


def test_names_are_not_looked_up_before_the_graph_has_completed_them(
    model_folder: Callable[..., Path],
) -> None:
    text = 'batch_input { target_name: "N" data_type: TYPE_INT32 source_input: "IN" }'
    assert read_model_config(model_folder(text)).batch_inputs[0].source == "IN"
