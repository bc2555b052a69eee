"""Which shared memory a tensor's parameters name, and the words for wrong ones."""

from __future__ import annotations

import pytest
from tritonclient.grpc import service_pb2 as pb

from naiad.core.errors import InvalidArgumentError
from naiad.services.shared_memory.parameters import ShmParameters, parse_shm_parameters


def parameters(**values: str | int | bool) -> dict[str, pb.InferParameter]:
    made = {}
    for key, value in values.items():
        field = {str: "string_param", int: "int64_param", bool: "bool_param"}[type(value)]
        made[f"shared_memory_{key}"] = pb.InferParameter(**{field: value})
    return made


def test_no_parameter_means_no_shared_memory() -> None:
    other = {"classification": pb.InferParameter(int64_param=1)}
    assert parse_shm_parameters({}, "T") is None
    assert parse_shm_parameters(other, "T") is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (parameters(region="ga", byte_size=64), ShmParameters("ga", 0, 64)),
        (parameters(region="ga", byte_size=64, offset=128), ShmParameters("ga", 128, 64)),
        (parameters(region="", byte_size=-1, offset=-2), ShmParameters("", -2, -1)),
    ],
)
def test_a_range_is_read_as_it_was_sent(given: dict[str, pb.InferParameter], expected: ShmParameters) -> None:
    assert parse_shm_parameters(given, "T") == expected


def test_the_message_s_own_map_is_read_without_growing() -> None:
    """Looking up a missing key in a protobuf map would add it."""
    tensor = pb.ModelInferRequest.InferInputTensor(name="T", parameters=parameters(region="r", byte_size=1))
    assert parse_shm_parameters(tensor.parameters, "T") == ShmParameters("r", 0, 1)
    assert sorted(tensor.parameters) == ["shared_memory_byte_size", "shared_memory_region"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            parameters(region=3, byte_size=64),
            "invalid value type for 'shared_memory_region' parameter for tensor 'T', expected string_param.",
        ),
        (
            parameters(region="ga", byte_size="64"),
            "invalid value type for 'shared_memory_byte_size' parameter for tensor 'T', expected int64_param.",
        ),
        (
            parameters(region="ga", byte_size=64, offset=True),
            "invalid value type for 'shared_memory_offset' parameter for tensor 'T', expected int64_param.",
        ),
        (
            parameters(region="ga"),
            "'shared_memory_byte_size' must be specified along with 'shared_memory_region' parameter for tensor 'T'",
        ),
        (
            parameters(offset=0),
            "'shared_memory_offset' can not be specified without 'shared_memory_region' parameter for tensor 'T'",
        ),
        (
            parameters(byte_size=64),
            "'shared_memory_byte_size' can not be specified without 'shared_memory_region' parameter for tensor 'T'",
        ),
    ],
)
def test_wrong_parameters_are_refused_in_triton_s_words(
    given: dict[str, pb.InferParameter], message: str
) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        parse_shm_parameters(given, "T")
    assert error.value.message == message
