"""When a call is tried again, by a clock that stands still and chance that is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest

from naiad_client import Client
from naiad_client.errors import from_status, pushback_ms
from naiad_client.retries import Backoff, RetryPlan, is_retryable

if TYPE_CHECKING:
    from naiad_client.options import StreamOptions

GONE = from_status(grpc.StatusCode.UNAVAILABLE, "gone")


def plan(retries: int = 9, deadline_s: float | None = None) -> RetryPlan:
    """A plan without chance."""
    return RetryPlan(
        retries, deadline_s, backoff=Backoff(most_s=1), uniform=lambda low, high: (low + high) / 2
    )


def test_waits_double_up_to_a_limit() -> None:
    tries = plan()
    assert [tries.pause_s(GONE, 0) for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1, 1])


def test_waits_are_spread() -> None:
    """From a fifth less to a fifth more."""
    for pick, wanted in ((min, 0.08), (max, 0.12)):
        assert RetryPlan(1, uniform=pick).pause_s(GONE, 0) == pytest.approx(wanted)


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_there_are_so_many_tries_more(retries: int) -> None:
    tries = plan(retries)
    assert sum(tries.pause_s(GONE, 0) is not None for _ in range(9)) == retries


def test_an_answer_makes_the_next_failure_a_first_one() -> None:
    tries = plan(1)
    assert tries.pause_s(GONE, 0) is not None
    assert tries.pause_s(GONE, 0) is None
    tries.progress()
    assert tries.pause_s(GONE, 0) == pytest.approx(0.1)


def test_the_server_s_pushback_takes_the_place_of_the_wait() -> None:
    busy = from_status(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", 250)
    assert plan().pause_s(busy, 0) == 0.25


def test_no_try_that_could_not_begin_before_the_deadline() -> None:
    tries = plan(deadline_s=10.0)
    assert tries.pause_s(GONE, 9.85) == pytest.approx(0.1)
    assert tries.pause_s(GONE, 9.85) is None
    assert tries.left_s(9.5) == 0.5
    assert tries.left_s(11) == 0
    assert plan().left_s(11) is None


@pytest.mark.parametrize(
    ("code", "pushback", "wanted"),
    [
        (grpc.StatusCode.UNAVAILABLE, None, True),
        (grpc.StatusCode.UNAVAILABLE, 0, True),
        (grpc.StatusCode.UNAVAILABLE, -1, False),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, None, False),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 10, True),
        (grpc.StatusCode.INVALID_ARGUMENT, 10, False),
        (grpc.StatusCode.DEADLINE_EXCEEDED, None, False),
        (grpc.StatusCode.INTERNAL, 10, False),
    ],
)
def test_what_may_be_tried_again(code: grpc.StatusCode, pushback: int | None, wanted: bool) -> None:
    """Nobody there, or a server that says when; never what is wrong in itself."""
    assert is_retryable(from_status(code, "", pushback)) is wanted


@pytest.mark.parametrize(("text", "wanted"), [("12", 12), ("-1", -1), ("soon", -1), (b"7", 7)])
def test_the_pushback_of_the_trailers(text: str | bytes, wanted: int) -> None:
    """What is no number asks for no retry, as gRPC has it."""
    assert pushback_ms([("other", "1"), ("grpc-retry-pushback-ms", text)]) == wanted


def test_no_pushback() -> None:
    assert pushback_ms(None) is None
    assert pushback_ms([]) is None


def test_whoever_was_answered_has_more_patience() -> None:
    """A server that is being started anew takes longer than one that was never there is worth."""
    tries = RetryPlan(4, resumes=12, uniform=lambda low, high: (low + high) / 2)
    assert sum(tries.pause_s(GONE, 0) is not None for _ in range(20)) == 4
    tries.progress()
    assert sum(tries.pause_s(GONE, 0) or 0 for _ in range(20)) == pytest.approx(36.3)


@pytest.mark.parametrize(
    ("of_client", "of_stream", "wanted"),
    [(4, None, (4, 12)), (0, None, (0, 0)), (50, None, (50, 50)), (4, 2, (2, 2)), (50, 0, (0, 0))],
)
def test_a_stream_has_patience_unless_it_is_told_otherwise(
    of_client: int, of_stream: int | None, wanted: tuple[int, int]
) -> None:
    options: StreamOptions = {} if of_stream is None else {"retries": of_stream}
    with Client("localhost:1", retries=of_client) as client:
        tries = client._stream_plan(options, 0)  # by way of a server it would take 36 s
    before = sum(tries.pause_s(GONE, 0) is not None for _ in range(99))
    tries.progress()
    assert (before, sum(tries.pause_s(GONE, 0) is not None for _ in range(99))) == wanted


def test_fewer_than_no_retries_are_refused() -> None:
    with pytest.raises(ValueError, match="retries is -1"):
        RetryPlan(-1)
