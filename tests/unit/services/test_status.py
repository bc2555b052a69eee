"""What a failed call is told: a code by the table, and a text that every client can receive."""

from __future__ import annotations

from urllib.parse import quote

import grpc
import pytest
from structlog.testing import capture_logs

from naiad.core.errors import (
    CallerFaultError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from naiad.services.status import UndecodableError, status_of

TRAILERS_BYTES = 8 * 1_024
"""What a client takes: with longer trailers it drops the call, and the caller never learns why."""


@pytest.mark.parametrize("letter", ["x", "\n", "%", "é", "字", "\U0001f600", "\ud800"])
def test_a_long_text_fits_the_trailers_in_every_script(letter: str) -> None:
    """Three bytes are written for each byte that is not printable ASCII."""
    message = status_of(NotFoundError(f"model '{letter * 100_000}'")).message
    assert message.startswith("model '")
    assert message.endswith(" …")
    assert 1_900 < len(quote(message, safe="")) < TRAILERS_BYTES


def test_a_text_that_fits_is_left_as_it_is() -> None:
    text = "model 'é字\U0001f600' is not found"
    assert status_of(NotFoundError(text)).message == text


def test_each_error_has_the_code_of_its_class() -> None:
    assert status_of(InvalidArgumentError("x")).code is grpc.StatusCode.INVALID_ARGUMENT
    assert status_of(InternalError("x")).code is grpc.StatusCode.INTERNAL
    assert status_of(UndecodableError("x")).code is grpc.StatusCode.INTERNAL


def test_the_log_holds_a_caller_s_mistake_against_nobody_and_says_which_call_it_was() -> None:
    with capture_logs() as lines:
        assert status_of(CallerFaultError("no region"), model="m", peer="").code is grpc.StatusCode.INTERNAL
        status_of(InternalError("broken"), method="ModelInfer", model="m")
    assert lines == [
        {
            "event": "call refused",
            "log_level": "debug",
            "code": "INTERNAL",
            "reason": "no region",
            "model": "m",
        },
        {
            "event": "a model failed",
            "log_level": "error",
            "reason": "broken",
            "method": "ModelInfer",
            "model": "m",
            "who": "model owner",
        },
    ]


def test_an_unexpected_error_is_a_sentence_that_tells_nothing_of_it() -> None:
    status = status_of(ValueError("secret"))
    assert status.code is grpc.StatusCode.INTERNAL
    assert status.message.startswith("unexpected error in the server, logged as incident ")
    assert "secret" not in status.message


def test_an_error_that_knows_when_to_try_again_tells_grpcs_own_retries() -> None:
    status = status_of(ResourceExhaustedError("full", retry_after_ms=250))
    assert status.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert status.trailers == (("grpc-retry-pushback-ms", "250"),)
    assert status_of(ResourceExhaustedError("too large")).trailers == ()
    assert status_of(ValueError("a bug")).trailers == ()
