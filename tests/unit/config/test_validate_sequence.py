"""Each rule that Triton has for sequence_batching refuses with Triton's words, and good blocks pass."""

from __future__ import annotations

import pytest

from naiad.config.messages import parse_text
from naiad.config.validate import validate_config
from naiad.core.errors import InvalidArgumentError

_HEAD = 'name: "m" platform: "onnxruntime_onnx" backend: "onnxruntime" max_batch_size: 8 '
_START = "kind: CONTROL_SEQUENCE_START"
_CORRID = "kind: CONTROL_SEQUENCE_CORRID"


def _control(*controls: str, name: str = "C") -> str:
    listed = ", ".join(f"{{ {control} }}" for control in controls)
    return f'control_input {{ name: "{name}" control [ {listed} ] }}'


def _state(rest: str) -> str:
    return f'state {{ input_name: "I" output_name: "O" data_type: TYPE_FP32 {rest} }}'


def _initial(rest: str) -> str:
    return _state(f"dims: [ 2, -1 ] initial_state {{ {rest} }}")


_INITIAL = 'name: "i" data_type: TYPE_FP32'


def _validate(block: str, more: str = "") -> None:
    validate_config(parse_text(f"{_HEAD} sequence_batching {{ {block} }} {more}", "here"), "m")


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (
            _control(f"{_START} int32_false_true: [0, 1]", name=""),
            "sequence batching control tensor must have a name for m",
        ),
        (
            _control(f"{_START} int32_false_true: [0, 1]") + _control("kind: CONTROL_SEQUENCE_END"),
            "sequence batching control tensor 'C' is specified for multiple control kinds for m",
        ),
        (
            _control(f"{_START} int32_false_true: [0, 1]", "kind: CONTROL_SEQUENCE_END"),
            "sequence batching control tensor 'C' is specified for multiple control kinds for m",
        ),
        (_control(), "sequence batching control tensor 'C' must specify a control kind for m"),
        (
            _control(f"{_START} int32_false_true: [0, 1]")
            + _control(f"{_START} int32_false_true: [0, 1]", name="D"),
            "sequence batching specifies multiple CONTROL_SEQUENCE_START tensors for m",
        ),
        (
            _control(_START),
            "sequence batching must specify either 'int32_false_true', 'fp32_false_true' or "
            "'bool_false_true' for CONTROL_SEQUENCE_START for m",
        ),
        (
            _control(f"{_START} int32_false_true: [0, 1] bool_false_true: [false, true]"),
            "sequence batching specifies more than one from 'int32_false_true', 'fp32_false_true' and "
            "'bool_false_true' for CONTROL_SEQUENCE_START for m",
        ),
        (
            _control(f"{_START} fp32_false_true: [0]"),
            "sequence batching control 'fp32_false_true' must have exactly 2 entries for "
            "CONTROL_SEQUENCE_START for m",
        ),
        (
            _control(f"{_START} int32_false_true: [0, 1] data_type: TYPE_INT32"),
            "sequence batching control must not specify 'data_type' for CONTROL_SEQUENCE_START for m: "
            "'int32_false_true' says it",
        ),
        (
            _control(f"{_CORRID} int32_false_true: [0, 1]"),
            "sequence batching must not specify either 'int32_false_true', 'fp32_false_true' or "
            "'bool_false_true' for CONTROL_SEQUENCE_CORRID for m",
        ),
        (
            _control(f"{_CORRID} data_type: TYPE_FP32"),
            "unexpected data type for control CONTROL_SEQUENCE_CORRID for m. Allowed data types are "
            "TYPE_UINT64, TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING",
        ),
        (
            "oldest { preferred_batch_size: 0 }",
            "sequence batching preferred batch size must be positive for m",
        ),
        (
            "oldest { preferred_batch_size: 9 }",
            "sequence batching preferred batch size must be <= max batch size for m",
        ),
        (
            "oldest { max_candidate_sequences: -1 }",
            "max_candidate_sequences is -1, it must be at least 0 for m",
        ),
        (
            "direct { minimum_slot_utilization: 1.5 }",
            "sequence batching minimum slot utilization must be in range (0.0, 1.0] for m",
        ),
        (
            'state { input_name: "I" }',
            "state 'I' of sequence batching must specify 'input_name' and 'output_name' for m",
        ),
        (
            'state { input_name: "I" output_name: "O" }',
            "state 'I' of sequence batching must specify 'data_type' for m",
        ),
        (_state("dims: 0"), "state 'I' of sequence batching must specify 'dims' of integers >= 1"),
        (_state("dims: 1") + _state("dims: 1"), "State input name 'I' specified more than once."),
        (
            _state("dims: 1") + _state("dims: 1").replace('"I"', '"J"'),
            "State output name 'O' specified more than once.",
        ),
        (
            _state("dims: 1 initial_state {} initial_state {}"),
            "initial_state field for state input 'I' must contain exactly one or zero element. Found '2' "
            "elements.",
        ),
        (
            _initial('name: "i" data_type: TYPE_INT32'),
            "The data type used for 'initial_state' field of state 'I' does not match the state data type.",
        ),
        (
            _initial("data_type: TYPE_FP32"),
            "Field 'name' must be set when using initial_state for state input 'I'.",
        ),
        (
            _initial(f"{_INITIAL} dims: 2"),
            "Number of dimensions in 'initial_state' doesn't match the size of 'state' dimensions for state "
            "input 'I'. 1 != 2",
        ),
        (
            _initial(f"{_INITIAL} dims: [2, -1]"),
            "'initial_state' field for state input name 'I' contains variable dimensions.",
        ),
        (
            _initial(f"{_INITIAL} dims: [3, 1]"),
            "'initial_state' dim for input name 'I' doesn't match 'state' dim description. 3 != 2",
        ),
        (
            _initial(f"{_INITIAL} dims: [2, 1]"),
            "initial_state setting expects state'I' to have state_data set",
        ),
    ],
)
def test_a_broken_rule_is_refused_in_tritons_words(block: str, expected: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        _validate(block)
    assert caught.value.message.startswith(expected)


def test_a_response_cache_does_not_go_with_sequences() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        _validate("", "response_cache { enable: true }")
    assert caught.value.message == (
        "Response Cache does not currently support model m with sequence batching scheduler. Please disable "
        "the response cache."
    )


@pytest.mark.parametrize(
    "block",
    [
        "",
        "direct { max_queue_delay_microseconds: 5 minimum_slot_utilization: 1.0 }",
        "oldest { max_candidate_sequences: 1024 preferred_batch_size: [4, 8] preserve_ordering: true }",
        _control(f"{_CORRID} data_type: TYPE_STRING")
        + _control(f"{_START} bool_false_true: [false, true]", name="D"),
        _initial(f"{_INITIAL} dims: [2, 4] zero_data: true"),
        _initial(f"{_INITIAL} dims: [2, 4] data_file: 'start'"),
    ],
)
def test_a_good_block_passes(block: str) -> None:
    _validate(block)
