"""The queue keeps order, and lets requests leave from anywhere."""

from __future__ import annotations

import asyncio

from naiad.core.tensors import InferRequest
from naiad.scheduling.queue import PendingRequest, RequestQueue


def pending(name: str, deadline_ns: int | None = None) -> PendingRequest:
    request = InferRequest("m", None, {}, request_id=name, deadline_ns=deadline_ns)
    return PendingRequest(request, asyncio.Future(), shape_key=None, enqueued_ns=0)


def names(requests: list[PendingRequest]) -> list[str]:
    return [item.request.request_id for item in requests]


async def test_requests_leave_in_the_order_they_came() -> None:
    queue = RequestQueue()
    for name in "abc":
        queue.push(pending(name))
    assert names(queue.pop(2)) == ["a", "b"]
    assert names(list(queue)) == ["c"]


async def test_a_discarded_request_is_gone_and_only_once() -> None:
    queue = RequestQueue()
    middle = pending("b")
    for item in (pending("a"), middle, pending("c")):
        queue.push(item)
    assert queue.discard(middle)
    assert not queue.discard(middle)
    assert names(queue.pop(2)) == ["a", "c"]


async def test_expired_requests_leave_wherever_they_stand() -> None:
    queue = RequestQueue()
    for item in (pending("a"), pending("b", 50), pending("c", 20), pending("d", 99)):
        queue.push(item)
    assert queue.next_deadline_ns() == 20
    assert names(queue.pop_expired(50)) == ["c", "b"]
    assert names(list(queue)) == ["a", "d"]
    assert queue.next_deadline_ns() == 99


async def test_the_deadline_of_a_request_that_left_is_forgotten() -> None:
    queue = RequestQueue()
    queue.push(pending("a", 10))
    queue.pop(1)
    assert queue.next_deadline_ns() is None
    assert queue.pop_expired(100) == []
