"""Control tensors and states against the graph, in the words of Triton's backend."""

from __future__ import annotations

import pytest

from naiad.config.graph_checks import check_graph
from naiad.config.model_config import ModelConfig, TensorConfig
from naiad.config.sequence_config import ControlConfig, ControlKind, SequenceBatching, StateConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import InternalError, InvalidArgumentError, NaiadError
from naiad.core.tensors import TensorSpec

FP32, INT32 = DataType.FP32, DataType.INT32
INPUT, START = TensorSpec("IN", FP32, (-1, 2)), TensorSpec("START", INT32, (-1, 1))
STATE_IN, STATE_OUT = TensorSpec("S_IN", FP32, (-1, 4)), TensorSpec("S_OUT", FP32, (-1, 4))
OUTPUT = TensorSpec("OUT", FP32, (-1, 2))


def config(max_batch_size: int = 8) -> ModelConfig:
    return ModelConfig(
        "m",
        max_batch_size,
        (TensorConfig("IN", FP32, (2,)),),
        (TensorConfig("OUT", FP32, (2,)),),
        sequence_batching=SequenceBatching(
            controls=(ControlConfig("START", ControlKind.START, INT32),),
            states=(StateConfig("S_IN", "S_OUT", FP32, (4,)),),
        ),
    )


def test_controls_and_states_are_inputs_and_outputs_of_the_graph() -> None:
    check_graph(config(), [INPUT, START, STATE_IN], [OUTPUT, STATE_OUT])


def test_a_control_of_an_unknown_rank_is_taken_at_its_word() -> None:
    check_graph(config(), [INPUT, TensorSpec("START", INT32, None), STATE_IN], [OUTPUT, STATE_OUT])


@pytest.mark.parametrize(
    ("inputs", "outputs", "kind", "expected"),
    [
        (
            [INPUT, STATE_IN],
            [OUTPUT, STATE_OUT],
            InternalError,
            "configuration specified sequence control 'START', but model does not provide that input",
        ),
        (
            [INPUT, TensorSpec("START", INT32, (-1, 2)), STATE_IN],
            [OUTPUT, STATE_OUT],
            InvalidArgumentError,
            "unable to load model 'm', sequence control 'START' in model has dims [2] but dims [1] is expected",
        ),
        (
            [INPUT, TensorSpec("START", FP32, (-1, 1)), STATE_IN],
            [OUTPUT, STATE_OUT],
            InvalidArgumentError,
            "unable to load model 'm', sequence control 'START', the model expects data-type TYPE_FP32 but the "
            "model configuration specifies data-type TYPE_INT32",
        ),
        (
            [INPUT, START],
            [OUTPUT, STATE_OUT],
            InvalidArgumentError,
            "unable to load model 'm', configuration expects 3 inputs, model provides 2",
        ),
        (
            [INPUT, START, TensorSpec("S_IN", FP32, (-1, 5))],
            [OUTPUT, STATE_OUT],
            InvalidArgumentError,
            "model 'm', tensor 'S_IN': the model expects 2 dimensions (shape [-1,5])",
        ),
        (
            [INPUT, START, STATE_IN],
            [OUTPUT],
            InvalidArgumentError,
            "unexpected inference output 'S_OUT', allowed outputs are: OUT",
        ),
        (
            [INPUT, START, STATE_IN],
            [OUTPUT, TensorSpec("S_OUT", INT32, (-1, 4))],
            InvalidArgumentError,
            "unable to load model 'm', configuration expects datatype TYPE_FP32 for output state 'S_OUT', "
            "model provides TYPE_INT32",
        ),
    ],
)
def test_a_graph_without_them_is_refused(
    inputs: list[TensorSpec], outputs: list[TensorSpec], kind: type[NaiadError], expected: str
) -> None:
    with pytest.raises(kind) as caught:
        check_graph(config(), inputs, outputs)
    assert caught.value.message.startswith(expected)
