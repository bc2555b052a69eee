"""Metadata and parameters that keep a caller with a version: what they say, and which goes first."""

from __future__ import annotations

import pytest
from tritonclient.grpc import service_pb2 as pb

from naiad.core.errors import InvalidArgumentError
from naiad.lifecycle.caller import MAX_KEY_LENGTH, NOBODY, Caller
from naiad.services.callers import caller_of, with_parameters


def request(**parameters: str | int | bool) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest()
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)]
        setattr(message.parameters[name], kind, value)
    return message


def test_a_call_that_says_nothing_is_nobody_and_costs_no_object() -> None:
    assert caller_of([("user-agent", "x")]) is NOBODY
    assert with_parameters(NOBODY, request().parameters) is NOBODY


def test_a_call_s_key_and_versions_are_read() -> None:
    caller = caller_of([("x-naiad-key", "alice"), ("x-naiad-version", "2, detector=7")])
    assert caller.key == "alice"
    assert caller.version_of("detector") == 7
    assert caller.version_of("embedder") == 2


def test_a_version_for_one_model_leaves_the_others_to_the_server() -> None:
    assert caller_of([("x-naiad-version", "detector=7")]).version_of("embedder") is None


@pytest.mark.parametrize("text", ["", "two", "-1", "0", "1.0", "a=", "a=b", "1,2", "a=1,a=2", "٣", "9" * 30])
def test_what_is_no_version_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="x-naiad-version is"):
        caller_of([("x-naiad-version", text)])


def test_a_key_may_be_as_long_as_the_limit_and_no_longer() -> None:
    assert caller_of([("x-naiad-key", "k" * MAX_KEY_LENGTH)]).key == "k" * MAX_KEY_LENGTH
    with pytest.raises(InvalidArgumentError, match=rf"has {MAX_KEY_LENGTH + 1} characters, the limit is"):
        caller_of([("x-naiad-key", "k" * (MAX_KEY_LENGTH + 1))])


def test_the_call_s_key_goes_before_the_request_s_and_that_before_its_sequence() -> None:
    named = caller_of([("x-naiad-key", "alice")])
    message = request(naiad_key="bob", sequence_id=7, sequence_start=True)
    assert with_parameters(named, message.parameters).key == "alice"
    own = with_parameters(NOBODY, message.parameters)
    assert own.key == "bob"
    assert own.sequence is not None
    assert own.sequence.starts
    assert with_parameters(NOBODY, request(sequence_id=7).parameters).key == "sequence 7"
    assert with_parameters(NOBODY, request(sequence_id="s").parameters).key == "sequence s"


def test_a_key_may_be_a_number_and_is_the_same_as_its_text() -> None:
    assert with_parameters(NOBODY, request(naiad_key=12).parameters).key == "12"


def test_a_key_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="'naiad_key' is a bool_param, it must be"):
        with_parameters(NOBODY, request(naiad_key=True).parameters)


def test_streams_have_keys_of_their_own_and_pins() -> None:
    first, second = caller_of([], is_stream=True), caller_of([], is_stream=True)
    assert first.key != second.key
    assert first.pins == {}
    assert caller_of([("x-naiad-key", "alice")], is_stream=True).key == "alice"


def test_a_sequence_on_a_stream_does_not_follow_the_stream() -> None:
    """Two streams may bring parts of one sequence."""
    stream = caller_of([], is_stream=True)
    step = with_parameters(stream, request(sequence_id=7).parameters)
    assert (step.key, step.pins) == ("sequence 7", None)
    assert isinstance(step, Caller)
    named = caller_of([("x-naiad-key", "alice")], is_stream=True)
    step = with_parameters(named, request(sequence_id=7).parameters)
    assert step.key == "alice"
    assert step.sequence is not None
