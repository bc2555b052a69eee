"""Control tensors, states and empty rows, tensor by tensor."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from support.sequences import CONTROLS, INT32, SUM, item, sequence_config

from naiad.config.model_config import TensorConfig
from naiad.config.sequence_config import ControlConfig, ControlKind, InitialState, StateConfig
from naiad.core.datatypes import DataType
from naiad.core.errors import InvalidArgumentError
from naiad.scheduling.sequence.inputs import SequenceInputs
from naiad.scheduling.sequence.table import LiveSequence

if TYPE_CHECKING:
    from naiad.core.tensors import Array


def flag(kind: ControlKind, datatype: DataType, false: float, true: float) -> ControlConfig:
    return ControlConfig("FLAG", kind, datatype, false, true)


def prepared(inputs: SequenceInputs, flags: str = "", sequence_id: int | str = 5) -> dict[str, Array]:
    return inputs.prepare(item(sequence_id, 1, flags), LiveSequence(sequence_id)).inputs


@pytest.mark.parametrize(("flags", "start", "end"), [("S", 1, 0), ("", 0, 0), ("E", 0, 1), ("SE", 1, 1)])
def test_the_flags_of_a_request_become_its_control_tensors(flags: str, start: int, end: int) -> None:
    tensors = prepared(SequenceInputs(sequence_config()), flags)
    assert {name: array.tolist() for name, array in tensors.items()} == {
        "INPUT": [[1]],
        "START": [[start]],
        "END": [[end]],
        "READY": [[1]],
        "CORRID": [[5]],
    }
    assert tensors["START"].dtype == np.int32
    assert tensors["CORRID"].dtype == np.uint64


@pytest.mark.parametrize(
    ("datatype", "false", "true"),
    [(DataType.INT32, -1, 7), (DataType.FP32, 0.5, 2.5), (DataType.BOOL, 1, 0)],
)
def test_a_flag_has_the_values_and_the_datatype_of_its_config(
    datatype: DataType, false: float, true: float
) -> None:
    config = sequence_config(controls=(flag(ControlKind.START, datatype, false, true),))
    inputs = SequenceInputs(config)
    for flags, value in (("S", true), ("", false)):
        tensor = prepared(inputs, flags)["FLAG"]
        assert tensor.dtype == datatype.numpy
        assert tensor.tolist() == [[value]]


def test_without_a_batch_dimension_control_tensors_have_none() -> None:
    tensors = prepared(SequenceInputs(sequence_config(max_batch_size=0)))
    assert {tensors[control.name].shape for control in CONTROLS} == {(1,)}


@pytest.mark.parametrize(
    ("datatype", "sequence_id", "expected"),
    [
        (DataType.UINT64, 2**64 - 1, 2**64 - 1),
        (DataType.INT64, 2**63, -(2**63)),  # the bits, as Triton copies them
        (DataType.INT64, -2, -2),
        (DataType.UINT32, 2**32 + 3, 3),
        (DataType.INT32, 2**31, -(2**31)),
        (DataType.BYTES, "abc", b"abc"),
        (DataType.BYTES, "é", "é".encode()),
    ],
)
def test_the_id_is_told_in_the_models_datatype(
    datatype: DataType, sequence_id: int | str, expected: Any
) -> None:
    config = sequence_config(controls=(ControlConfig("ID", ControlKind.CORRID, datatype),))
    tensor = prepared(SequenceInputs(config), sequence_id=sequence_id)["ID"]
    assert tensor.dtype == datatype.numpy
    assert tensor.tolist() == [[expected]]


@pytest.mark.parametrize(
    ("datatype", "sequence_id", "expected"),
    [
        (DataType.UINT64, "abc", "data-type is 'BYTES', but model 'm' expects 'UINT64'"),
        (DataType.BYTES, 5, "data-type is 'UINT64', but model 'm' expects 'BYTES'"),
    ],
)
def test_an_id_of_the_other_kind_is_refused_in_tritons_words(
    datatype: DataType, sequence_id: int | str, expected: str
) -> None:
    config = sequence_config(controls=(ControlConfig("ID", ControlKind.CORRID, datatype),))
    with pytest.raises(InvalidArgumentError) as caught:
        SequenceInputs(config).check(item(sequence_id, 1, "S"))
    assert caught.value.message == f"[request id: {sequence_id}:1] sequence batching control 'ID' {expected}"


@pytest.mark.parametrize("sequence_id", [0, ""])
def test_a_request_without_a_sequence_is_refused_in_tritons_words(sequence_id: int | str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        SequenceInputs(sequence_config(controls=())).check(item(sequence_id, 1, "S"))
    assert caught.value.message == (
        "inference request to model 'm' must specify a non-zero or non-empty correlation ID"
    )


def test_a_batch_is_refused_in_tritons_words() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        SequenceInputs(sequence_config()).check(replace(item(5, 1, "S"), batch_size=2))
    assert caught.value.message == (
        "inference request to model 'm' must specify batch-size 1 due to requirements of sequence batcher"
    )


def test_without_a_corrid_control_any_kind_of_id_goes() -> None:
    inputs = SequenceInputs(sequence_config(controls=CONTROLS[:3]))
    inputs.check(item("abc", 1, "S"))
    inputs.check(item(3, 1, "S"))


def test_an_empty_row_is_zeros_of_the_same_shape_and_not_ready() -> None:
    inputs = SequenceInputs(
        sequence_config(
            controls=(
                flag(ControlKind.READY, DataType.FP32, -1.0, 1.0),
                ControlConfig("ID", ControlKind.CORRID, DataType.BYTES),
            ),
            states=(SUM,),
        )
    )
    request = replace(item("a", 9, "S", width=3), outputs=("OUTPUT",))
    request.inputs["TEXT"] = np.array([[b"abc"]], dtype=object)
    like = inputs.prepare(request, LiveSequence("a"))
    row = inputs.empty_row(like)
    assert {name: array.tolist() for name, array in row.inputs.items()} == {
        "INPUT": [[0, 0, 0]],
        "TEXT": [[b""]],
        "FLAG": [[-1.0]],
        "ID": [[b"0"]],  # graphs turn ids into numbers
        "SUM_IN": [[0]],
    }
    assert row.inputs["INPUT"].dtype == np.int32
    assert row.outputs == like.outputs


def test_a_state_starts_at_zero_and_is_then_the_last_output() -> None:
    inputs, sequence = SequenceInputs(sequence_config(states=(SUM,))), LiveSequence(5)
    request = item(5, 1, "S")
    feed = inputs.prepare(request, sequence)
    assert feed.inputs["SUM_IN"].tolist() == [[0]]
    assert set(feed.outputs or ()) == {"OUTPUT", "SUM_OUT"}
    outputs: dict[str, Array] = {"OUTPUT": np.array([[8]]), "SUM_OUT": np.array([[41]], np.int32)}
    assert list(inputs.absorb(request, sequence, outputs)) == ["OUTPUT"]
    assert inputs.prepare(item(5, 2), sequence).inputs["SUM_IN"].tolist() == [[41]]
    assert inputs.prepare(item(5, 3, "S"), sequence).inputs["SUM_IN"].tolist() == [[0]]


def test_a_state_is_returned_only_if_it_is_an_output_and_asked_for() -> None:
    config = replace(
        sequence_config(states=(SUM,)),
        outputs=(TensorConfig("OUTPUT", INT32, (1,)), TensorConfig("SUM_OUT", INT32, (1,))),
    )
    inputs, sequence = SequenceInputs(config), LiveSequence(5)
    outputs: dict[str, Array] = {"OUTPUT": np.array([[8]]), "SUM_OUT": np.array([[41]])}
    assert list(inputs.absorb(item(5, 1), sequence, dict(outputs))) == ["OUTPUT", "SUM_OUT"]
    asked = replace(item(5, 1), outputs=("OUTPUT",))
    assert list(inputs.absorb(asked, sequence, dict(outputs))) == ["OUTPUT"]
    assert sequence.states is not None
    assert sequence.states["SUM_IN"].tolist() == [[41]]


def test_a_state_does_not_keep_the_whole_batch_in_memory() -> None:
    inputs, sequence = SequenceInputs(sequence_config(states=(SUM,))), LiveSequence(5)
    batch = np.zeros((64, 1), np.int32)
    inputs.absorb(item(5, 1), sequence, {"OUTPUT": batch[3:4], "SUM_OUT": batch[3:4]})
    assert sequence.states is not None
    assert sequence.states["SUM_IN"].base is None


def state(datatype: DataType, dims: tuple[int, ...], initial: InitialState | None = None) -> StateConfig:
    return StateConfig("IN", "OUT", datatype, dims, initial)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (state(DataType.FP32, (2,)), [[0.0, 0.0]]),
        (state(DataType.FP32, (-1, 2)), [[[0.0, 0.0]]]),  # any size begins with 1, as in Triton
        (state(DataType.BYTES, (1,)), [[b""]]),
        (state(DataType.FP32, (-1,), InitialState("i", DataType.FP32, (3,))), [[0.0, 0.0, 0.0]]),
        (
            state(
                DataType.FP32,
                (2,),
                InitialState("i", DataType.FP32, (2,), "f", struct.pack("<ff", 1.5, 2.5)),
            ),
            [[1.5, 2.5]],
        ),
        (
            state(
                DataType.BYTES,
                (3,),
                InitialState("i", DataType.BYTES, (3,), "f", b"\x02\0\0\0ab\0\0\0\0\x01\0\0\0c"),
            ),
            [[b"ab", b"", b"c"]],
        ),
        (
            state(DataType.BYTES, (2,), InitialState("i", DataType.BYTES, (2,), "f", b"\x01\0\0\0a\x01")),
            [[b"a", b""]],  # the file ends early
        ),
    ],
)
def test_an_initial_state_is_what_the_config_says(declared: StateConfig, expected: Any) -> None:
    tensor = prepared(SequenceInputs(sequence_config(states=(declared,))), "S")["IN"]
    assert tensor.tolist() == expected
    assert tensor.dtype == declared.datatype.numpy
