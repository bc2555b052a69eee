"""A graph must take ragged inputs flat and have every input that the server makes of a batch's shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from naiad.config.complete import complete_model_config
from naiad.config.messages import parse_text
from naiad.config.reader import config_from_message, read_model_config
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from naiad.config.model_config import ModelConfig

INPUT = 'input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true } ]'
OUTPUT = 'output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] } ]'
COUNTS = 'batch_input { target_name: "N" data_type: TYPE_INT32 source_input: "IN" }'
CONFIG = f"max_batch_size: 4 {INPUT} {OUTPUT} {COUNTS}"
IN = TensorSpec("IN", DataType.FP32, (-1,))
N = TensorSpec("N", DataType.INT32, (-1,))
OUT = TensorSpec("OUT", DataType.FP32, (-1, 1))


@pytest.fixture
def complete(tmp_path: Path) -> Callable[..., ModelConfig]:
    def from_text(
        text: str, inputs: Sequence[TensorSpec] = (IN, N), outputs: Sequence[TensorSpec] = (OUT,)
    ) -> ModelConfig:
        message = parse_text(f'backend: "onnxruntime" {text}', "here")
        return complete_model_config(config_from_message(message, tmp_path / "model"), inputs, outputs)

    return from_text


def test_what_the_server_makes_is_not_among_the_configs_inputs(complete: Callable[..., ModelConfig]) -> None:
    assert [tensor.name for tensor in complete(CONFIG).inputs] == ["IN"]
    auto = complete(f"max_batch_size: 4 {COUNTS}")
    assert [tensor.name for tensor in auto.inputs] == ["IN"]
    assert [tensor.name for tensor in auto.outputs] == ["OUT"]


def test_an_output_that_is_cut_by_its_requests_needs_no_batch_dimension(
    complete: Callable[..., ModelConfig],
) -> None:
    text = CONFIG.replace("dims: [ 1 ]", "dims: [ -1 ]")
    flat = TensorSpec("OUT", DataType.FP32, (-1,))
    with pytest.raises(InvalidArgumentError, match="tensor 'OUT': the model expects 1 dimensions"):
        complete(text, outputs=[flat])
    complete(text + ' batch_output { target_name: "OUT" source_input: "IN" }', outputs=[flat])


PREFIX = "unable to load model 'model', "
RAGGED = "configuration expects model provides input with shape [-1] "


@pytest.mark.parametrize(
    ("text", "inputs", "message"),
    [
        (
            CONFIG,
            [TensorSpec("IN", DataType.FP32, (-1, -1)), N],
            f"{PREFIX}{RAGGED} for ragged input 'IN', model provides [-1,-1]",
        ),
        (
            CONFIG.replace("max_batch_size: 4", "").replace("true", "true optional: true"),
            [N],
            "unexpected inference input 'IN', allowed inputs are: N",
        ),
        (CONFIG, [IN], f"{PREFIX}configuration expects 2 inputs, model provides 1"),
        (
            CONFIG,
            [IN, TensorSpec("M", DataType.INT32, (-1,))],
            "unexpected inference input 'N', allowed inputs are: IN, M",
        ),
        (
            CONFIG,
            [IN, TensorSpec("N", DataType.FP32, (-1,))],
            f"{PREFIX}configuration expects datatype TYPE_INT32 for batch input 'N', "
            "model provides TYPE_FP32",
        ),
        (
            CONFIG,
            [IN, TensorSpec("N", DataType.INT32, (-1, 1))],
            f"{PREFIX}configuration expects model provides input with shape [-1] for batch input 'N' "
            "of kind BATCH_ELEMENT_COUNT, model provides [-1,1]",
        ),
        (
            CONFIG.replace("batch_input {", "batch_input { kind: BATCH_ITEM_SHAPE"),
            [IN, N],
            f"{PREFIX}configuration expects model provides input with shape [-1,dims] for batch input 'N' "
            "of kind BATCH_ITEM_SHAPE, model provides [-1]",
        ),
        (
            CONFIG.replace("dims: [ 1 ]", "dims: [ 2, -1 ]")
            + ' batch_output { target_name: "OUT" source_input: "IN" }',
            [IN, N],
            f"{PREFIX}batch output 'OUT' has dims [2,-1]: a variable-size dimension takes its size from the "
            "same dimension of 'IN', which has dims [-1]",
        ),
    ],
)
def test_a_graph_that_does_not_fit_is_refused(
    text: str, inputs: list[TensorSpec], message: str, complete: Callable[..., ModelConfig]
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        complete(text, inputs)
    assert caught.value.message == message


def test_an_optional_input_can_be_neither_ragged_nor_described(model_folder: Callable[..., Path]) -> None:
    """Optional inputs are overridable initializers of models without a batch dimension."""
    text = CONFIG.replace("max_batch_size: 4", "").replace("dims: [ 1 ]", "dims: [ -1, 1 ]")
    optional = text.replace("true", "true optional: true")
    config = read_model_config(model_folder(optional))
    with pytest.raises(InvalidArgumentError) as caught:
        complete_model_config(config, [IN, N], [OUT], optional_inputs=["IN"])
    assert caught.value.message == (
        f"{PREFIX}{RAGGED}for ragged input 'IN', which is not supported for optional input"
    )
    described = optional.replace("allow_ragged_batch: true", "")
    config = read_model_config(model_folder(described, name="other"))
    with pytest.raises(InvalidArgumentError, match="source input 'IN' of a batch input .* not be optional"):
        complete_model_config(config, [IN, N], [OUT], optional_inputs=["IN"])
