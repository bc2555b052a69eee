"""Request parameters: known keys have one type, `triton_` is reserved, the rest is free."""

from __future__ import annotations

from typing import Any

import pytest
from tritonclient.grpc import service_pb2 as pb

from naiad.core.errors import InvalidArgumentError
from naiad.services.parameters import MAX_PARAMETERS, read_parameters


def parameters(key: str, **value: Any) -> dict[str, pb.InferParameter]:
    return {key: pb.InferParameter(**value)}


def test_more_parameters_than_the_loop_has_time_for_are_refused() -> None:
    many = {str(number): pb.InferParameter(bool_param=True) for number in range(MAX_PARAMETERS)}
    assert len(read_parameters(many).custom or {}) == MAX_PARAMETERS
    with pytest.raises(InvalidArgumentError, match="1001 parameters in a request, at most 1000 are taken"):
        read_parameters(many | parameters("one more", bool_param=True))


@pytest.mark.parametrize(
    "accepted",
    [
        parameters("sequence_id", int64_param=1),
        parameters("sequence_id", string_param="a"),
        parameters("sequence_start", bool_param=True),
        parameters("priority", uint64_param=2),
        parameters("timeout", int64_param=-5),
        parameters("triton_enable_empty_final_response", bool_param=True),
        parameters("mine", double_param=1.5),
    ],
    ids=str,
)
def test_what_triton_accepts_is_accepted(accepted: dict[str, pb.InferParameter]) -> None:
    read_parameters(accepted)


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (
            parameters("sequence_id", uint64_param=1),
            "invalid value type for 'sequence_id' parameter, expected int64_param or string_param.",
        ),
        (
            parameters("timeout", string_param="1"),
            "invalid value type for 'timeout' parameter, expected int64_param.",
        ),
        (parameters("priority", int64_param=-1), "invalid value for 'priority', expected value >= 0."),
        (parameters("triton_x", int64_param=1), "parameter keys starting with 'triton_' are reserved"),
        (
            parameters("mine", uint64_param=1),
            "invalid value type for 'mine' parameter, expected int64_param, bool",
        ),
    ],
)
def test_what_triton_refuses_is_refused_in_its_words(
    refused: dict[str, pb.InferParameter], message: str
) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        read_parameters(refused)
    assert message in str(raised.value)
