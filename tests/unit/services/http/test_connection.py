"""One connection: upgrades that are offered, trailers, peers that do not read, and what a head may hide."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.fake_triton import FakeTriton
from support.http import Front, front, peer

from naiad.services.http import connection
from naiad.services.restricted import Category, Restriction

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATH = "/v2/models/echo_FP32/infer"
BODY = b'{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1],"data":[1]}]}'
H2C = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
"""What Java's HTTP client sends with its first request to a server."""

INNER = b"GET /v2/logging HTTP/1.1\r\nHost: x\r\n\r\n"
"""A request that hides in a body."""


@pytest.fixture
async def running() -> AsyncIterator[Front]:
    secret = Restriction("x-secret", "pw")
    async with front(FakeTriton(), restrictions={Category.MODEL_CONFIG: secret}) as started:
        yield started


def head(lines: str, path: str = PATH, method: str = "POST") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode()


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_request_that_offers_an_upgrade_is_answered_as_if_it_did_not(
    running: Front, at_once: bool, chunked: bool
) -> None:
    """Its body is its body, and the connection goes on."""
    length = "Transfer-Encoding: chunked\r\n" if chunked else f"Content-Length: {len(BODY)}\r\n"
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY) if chunked else BODY
    async with peer(running.port) as other:
        for _ in range(2):
            if at_once:
                await other.send(head(H2C + length) + body)
            else:
                await other.send(head(H2C + length))
                await asyncio.sleep(0.02)  # so that they come apart
                await other.send(body)
            answer = await other.answer()
            assert (answer.status, answer.json["outputs"][0]["data"]) == (200, [1.0])
        assert (await other.ask("GET", "/v2")).status == 200


async def test_no_request_hides_in_the_body_behind_an_upgrade(running: Front) -> None:
    """A proxy that lets a body pass must not have let a request pass."""
    async with peer(running.port) as other:
        await other.send(head(f"Connection: Upgrade\r\nUpgrade: foo\r\nContent-Length: {len(INNER)}\r\n"))
        await asyncio.sleep(0.02)
        await other.send(INNER)
        assert (await other.answer()).status == 400
        await other.send(head("", "/v2", "GET"))
        assert (await other.answer()).json["name"] == "triton"


async def test_pipelined_requests_that_offer_upgrades_are_answered_in_order(running: Front) -> None:
    async with peer(running.port) as other:
        upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n"
        gets = [head(upgrade, path, "GET") for path in ("/v2", "/nothing", "/v2/health/live")]
        await other.send(b"".join(gets) + head(upgrade + f"Content-Length: {len(BODY)}\r\n") + BODY)
        assert [(await other.answer()).status for _ in range(4)] == [200, 404, 200, 200]


async def test_a_tunnel_is_refused(running: Front) -> None:
    async with peer(running.port) as other:
        await other.send(b"CONNECT other:443 HTTP/1.1\r\nHost: other\r\n\r\n" + INNER)
        assert (await other.answer()).status == 405
        assert await other.is_closed()


async def test_a_trailer_is_no_header(running: Front) -> None:
    """What a proxy takes out of heads must not come in at the other end: a secret, a length, an encoding."""
    config = "/v2/models/simple/config"
    async with peer(running.port) as other:
        assert (await other.ask("GET", config, headers={"X-Secret": "pw"})).status == 200
        await other.send(head("Transfer-Encoding: chunked\r\n", config, "GET") + b"0\r\nx-secret: pw\r\n\r\n")
        assert (await other.answer()).status == 403
        trailers = b"0\r\nContent-Encoding: gzip\r\nInference-Header-Content-Length: 3\r\n\r\n"
        await other.send(
            head("Transfer-Encoding: chunked\r\n") + b"%x\r\n%s\r\n" % (len(BODY), BODY) + trailers
        )
        assert (await other.answer()).status == 200


@pytest.mark.parametrize("asked", [True, False])
async def test_an_idle_peer_that_reads_nothing_is_closed_too(
    monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    """A closed transport waits for its peer to read what is left, for ever if need be."""
    monkeypatch.setattr(connection, "LINGER_S", 0.05)
    async with front(FakeTriton(), keep_alive_s=0.5) as started, peer(started.port) as deaf:
        if asked:
            assert (await deaf.ask("GET", "/v2")).status == 200
        gone = asyncio.Event()
        connections = started.server._state.connections  # nothing else tells what it holds
        while not connections:  # noqa: ASYNC110  # the server has no event for it
            await asyncio.sleep(0)
        (held,) = connections
        assert isinstance(held, connection.Connection)
        held.on_lost = gone.set
        held.transport.write(bytes(2**24))  # more than both ends' kernels take
        await asyncio.wait_for(gone.wait(), 20)
        assert not connections
