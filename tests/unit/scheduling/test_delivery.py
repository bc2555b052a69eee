"""Answers reach their callers as they are ready, or in the order in which requests were started."""

from __future__ import annotations

import asyncio

import pytest

from naiad.core.errors import InternalError
from naiad.core.tensors import InferRequest, InferResponse, ModelKey
from naiad.scheduling.delivery import Delivery
from naiad.scheduling.queue import PendingRequest


def pending() -> PendingRequest:
    return PendingRequest(InferRequest("m", None, {}), asyncio.Future(), arrived_ns=0)


def answer() -> InferResponse:
    return InferResponse(ModelKey("m", 1), {})


async def test_out_of_order_an_answer_is_told_at_once() -> None:
    delivery = Delivery()
    first, second = pending(), pending()
    delivery.expect([first, second])
    delivery.deliver(second, answer())
    assert (first.future.done(), second.future.done()) == (False, True)


async def test_in_order_an_answer_waits_for_those_started_before_it() -> None:
    delivery = Delivery(in_order=True)
    first, second, third = pending(), pending(), pending()
    delivery.expect([first, second])
    delivery.expect([third])
    delivery.deliver(third, answer())
    delivery.deliver(second, InternalError("broke"))
    assert not second.future.done()
    delivery.deliver(first, answer())
    assert first.future.done()
    assert third.future.done()
    with pytest.raises(InternalError, match="broke"):
        await second.future


async def test_in_order_a_request_that_was_never_started_holds_up_nobody() -> None:
    delivery = Delivery(in_order=True)
    started, rejected = pending(), pending()
    delivery.expect([started])
    delivery.deliver(rejected, InternalError("rejected"))
    with pytest.raises(InternalError, match="rejected"):
        await rejected.future
    assert not started.future.done()


async def test_in_order_a_caller_that_left_holds_up_nobody_once_its_run_is_over() -> None:
    delivery = Delivery(in_order=True)
    left, other = pending(), pending()
    delivery.expect([left, other])
    left.future.cancel()
    delivery.deliver(other, answer())
    assert not other.future.done()
    delivery.deliver(left, answer())
    assert other.future.done()
