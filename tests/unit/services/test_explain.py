"""The parameter that asks for an explanation: what it may be, and that it is the server's own."""

from __future__ import annotations

import pytest
from tritonclient.grpc import service_pb2 as pb

from naiad.core.errors import InvalidArgumentError
from naiad.core.tensors import InferResponse, InferTimes, ModelKey
from naiad.services.answer import InferAnswer
from naiad.services.http.infer_answer import write_answer
from naiad.services.parameters import RequestParameters, read_parameters
from naiad.services.wire.reply import to_wire


def read(**values: bool | str | int) -> RequestParameters:
    message = pb.ModelInferRequest()
    kinds = {bool: "bool_param", str: "string_param", int: "int64_param"}
    for key, value in values.items():
        setattr(message.parameters[key], kinds[type(value)], value)
    return read_parameters(message.parameters)


@pytest.mark.parametrize(("value", "asked"), [(True, True), ("true", True), (False, False), ("false", False)])
def test_it_is_a_boolean_or_the_text_of_one_and_reaches_no_model(value: bool | str, asked: bool) -> None:
    parameters = read(naiad_explain=value, mine="kept")
    assert parameters.explain is asked
    assert parameters.custom == {"mine": "kept"}
    assert read(naiad_explain=value).custom is None


@pytest.mark.parametrize("value", ["yes", "", 1])
def test_anything_else_is_refused_with_the_value(value: str | int) -> None:
    with pytest.raises(
        InvalidArgumentError, match=rf"'naiad_explain' parameter: {value!r}, expected true or false"
    ):
        read(naiad_explain=value)


def test_who_does_not_ask_is_told_nothing() -> None:
    assert read().explain is False
    answer = InferAnswer("m", "1", "", InferResponse(ModelKey("m", 1), {}, times=InferTimes()))
    assert not pb.ModelInferResponse.FromString(to_wire(answer, 10_000)).parameters
    assert b"parameters" not in bytes(write_answer(answer, lambda _: True).parts[0])


def test_both_wires_carry_the_answers_parameters_by_their_types() -> None:
    answer = InferAnswer("m", "1", "", InferResponse(ModelKey("m", 1), {}))
    answer.parameters = {"a": 2, "b": "two", "c": True, "d": 0.5}
    reply = pb.ModelInferResponse.FromString(to_wire(answer, 10_000))
    assert {key: value.WhichOneof("parameter_choice") for key, value in reply.parameters.items()} == {
        "a": "int64_param",
        "b": "string_param",
        "c": "bool_param",
        "d": "double_param",
    }
    written = bytes(write_answer(answer, lambda _: True).parts[0])
    assert b'"parameters":{"a":2,"b":"two","c":true,"d":0.5}' in written
