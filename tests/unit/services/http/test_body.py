"""How much of bodies is held at once: by one request within its limit, by all within theirs."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
from support.fake_triton import FakeTriton
from support.http import Front, front, peer

from naiad.core.errors import UnavailableError
from naiad.services.http.body import BodyBudget

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATH = "/v2/models/echo_FP32/infer"
TEXT = b'{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1],"data":[1]}]}'
LIMIT = 10_000


@pytest.fixture
async def running() -> AsyncIterator[Front]:
    async with front(FakeTriton(), max_pending_bytes=LIMIT) as started:
        yield started


def budget_of(running: Front) -> BodyBudget:
    return running.server._application._budget


def test_a_budget_refuses_what_exceeds_it_and_holds_no_more_for_it() -> None:
    budget = BodyBudget(10)
    budget.take(10)
    with pytest.raises(
        UnavailableError, match=r"10 bytes .* with 1 more the limit of 10 .*-max-pending-bytes"
    ):
        budget.take(1)
    assert budget.held == 10
    budget.give_back(4)
    budget.take(4)


async def test_bodies_that_are_still_coming_count_together(running: Front) -> None:
    """Each is within its own limit. The one too many is refused, those before it are answered."""
    blanks = b" " * (LIMIT - 1_000)
    async with peer(running.port) as slow:
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(blanks + TEXT)}\r\n\r\n"
        await slow.send(head.encode() + blanks)
        async with peer(running.port) as other:
            while not budget_of(running).held:
                assert (await other.ask("GET", "/v2")).status == 200
            refused = await other.ask("POST", PATH, b" " * 2_000 + TEXT)
            assert (refused.status, "--http-max-pending-bytes" in refused.error) == (503, True)
            assert (await other.ask("POST", PATH, TEXT)).status == 200
        await slow.send(TEXT)
        assert (await slow.answer()).status == 200
    assert budget_of(running).held == 0


async def test_an_inflated_body_counts_as_what_it_holds(running: Front) -> None:
    async with peer(running.port) as other:
        for size, status in ((LIMIT, 503), (LIMIT // 2, 200)):
            packed = gzip.compress(b" " * size + TEXT)
            answer = await other.ask("POST", PATH, packed, {"Content-Encoding": "gzip"})
            assert answer.status == status
    assert budget_of(running).held == 0


async def test_a_peer_that_leaves_gives_back_what_its_body_took(running: Front) -> None:
    async with peer(running.port) as leaving, peer(running.port) as other:
        await leaving.send(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n".encode() + TEXT)
        while not budget_of(running).held:
            assert (await other.ask("GET", "/v2")).status == 200
        leaving.writer.close()
        while budget_of(running).held:
            assert (await other.ask("GET", "/v2")).status == 200
