"""Status codes become exceptions."""

from __future__ import annotations

import grpc
import pytest

import naiad_client
from naiad_client.errors import from_number, from_status


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, naiad_client.InvalidArgumentError),
        (grpc.StatusCode.NOT_FOUND, naiad_client.NotFoundError),
        (grpc.StatusCode.ALREADY_EXISTS, naiad_client.AlreadyExistsError),
        (grpc.StatusCode.UNIMPLEMENTED, naiad_client.UnsupportedError),
        (grpc.StatusCode.UNAVAILABLE, naiad_client.UnavailableError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, naiad_client.ResourceExhaustedError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, naiad_client.DeadlineExceededError),
        (grpc.StatusCode.CANCELLED, naiad_client.CancelledError),
        (grpc.StatusCode.INTERNAL, naiad_client.InternalError),
        (grpc.StatusCode.DATA_LOSS, naiad_client.NaiadError),
    ],
)
def test_each_code_has_its_class(code: grpc.StatusCode, kind: type[naiad_client.NaiadError]) -> None:
    """The same error comes from a status and from its number, which is how streams tell it."""
    for error in (from_status(code, "why"), from_number(code.value[0], "why")):
        assert type(error) is kind
        assert (error.code, error.message, str(error)) == (code, "why", f"{code.name}: why")


def test_an_unheard_of_number_is_unknown() -> None:
    assert from_number(99, "why").code is grpc.StatusCode.UNKNOWN
