"""An error's headers: when to try again, what is allowed."""

from __future__ import annotations

import pytest

from naiad.core.errors import ResourceExhaustedError
from naiad.services.http.reply import error_reply


@pytest.mark.parametrize(("retry_after_ms", "seconds"), [(1, b"1"), (1_000, b"1"), (1_001, b"2")])
def test_when_to_try_again_is_told_in_whole_seconds_never_too_early(
    retry_after_ms: int, seconds: bytes
) -> None:
    reply = error_reply(ResourceExhaustedError("full", retry_after_ms=retry_after_ms))
    assert reply.status == 429
    assert (b"retry-after", seconds) in reply.headers


def test_an_error_that_does_not_know_says_nothing_of_it() -> None:
    reply = error_reply(ResourceExhaustedError("too large"))
    assert (reply.status, [name for name, _ in reply.headers]) == (429, [b"content-type"])
