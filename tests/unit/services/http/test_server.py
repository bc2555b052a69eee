"""The server's life and its connections: bounds, slow peers, peers that leave, and the drain."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

import pytest
from support.fake_triton import FakeTriton
from support.http import Front, ask, front, peer

from naiad.core.errors import UnavailableError
from naiad.services.http import HttpServer, HttpSettings, body
from naiad.services.http.connection import MAX_CHUNKS, MAX_HEAD_BYTES, MAX_PIPELINED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SLOW = b'{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1],"data":[1]}]}'
SLOW_PATH = "/v2/models/slow/infer"


@pytest.fixture
def fake() -> FakeTriton:
    return FakeTriton()


@pytest.fixture
async def running(fake: FakeTriton) -> AsyncIterator[Front]:
    async with front(fake) as started:
        yield started


async def test_a_taken_port_is_an_error_that_names_the_flags(running: Front, fake: FakeTriton) -> None:
    other = HttpServer(HttpSettings(address="127.0.0.1", port=running.port), fake)
    with pytest.raises(
        UnavailableError, match=r"cannot listen on 127.0.0.1:\d+ \(--http-address, --http-port\)"
    ):
        await other.start()
    wrong = HttpServer(HttpSettings(address="192.0.2.1", port=0), fake)
    with pytest.raises(UnavailableError, match="cannot listen on 192"):
        await wrong.start()


async def test_servers_that_both_say_so_share_a_port(fake: FakeTriton) -> None:
    async with (
        front(fake, reuse_port=True) as first,
        front(fake, reuse_port=True, port=first.port) as second,
    ):
        assert second.port == first.port


async def test_ipv6_addresses_are_listened_on(fake: FakeTriton) -> None:
    try:
        async with front(fake, address="::1") as started:
            reader, writer = await asyncio.open_connection("::1", started.port)
            writer.write(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.close()
            await writer.wait_closed()
    except UnavailableError:
        pytest.skip("this machine has no IPv6")


async def test_a_connection_is_kept_and_pipelined_requests_are_answered_in_order(running: Front) -> None:
    async with peer(running.port) as other:
        for _ in range(3):
            assert (await other.ask("GET", "/v2")).status == 200
        head = "GET /v2/{} HTTP/1.1\r\nHost: x\r\n\r\n"
        await other.send("".join(map(head.format, ["health/live", "nothing", "logging"])).encode())
        assert [(await other.answer()).status for _ in range(3)] == [200, 404, 200]


async def test_too_many_pipelined_requests_end_the_connection(running: Front) -> None:
    async with peer(running.port) as other:
        await other.send(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n" * (MAX_PIPELINED + 2))
        with contextlib.suppress(ConnectionResetError):
            assert await other.reader.read() == b""
    assert (await ask(running.port, "GET", "/v2")).status == 200


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"GET /v2 HTTP/9.9\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n", b"POST /v2 HTTP/1.1\r\nContent-Length: x\r\n\r\n"],
)  # fmt: skip
async def test_what_is_no_http_is_told_so_as_json(running: Front, data: bytes) -> None:
    async with peer(running.port) as other:
        await other.send(data)
        found = await other.answer()
        assert (found.status, found.error) == (400, "Invalid HTTP request received.")
        assert await other.is_closed()


async def test_a_broken_chunk_ends_the_request_and_its_connection(running: Front) -> None:
    async with peer(running.port) as other:
        await other.send(b"POST /v2/logging HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")
        assert (await other.answer()).status == 400
        assert await other.is_closed()


@pytest.mark.parametrize("line", [b"X-Header: " + b"a" * 1_000 + b"\r\n", b"a" * 1_000])
async def test_an_endless_head_is_refused(running: Front, line: bytes) -> None:
    """Many headers, or one that does not end."""
    async with peer(running.port) as other:
        await other.send(b"GET /v2 HTTP/1.1\r\nHost: x\r\nY: ")
        for _ in range(2 * MAX_HEAD_BYTES // len(line)):
            try:
                await other.send(line)
            except ConnectionError:
                break
        found = await other.answer()
        assert (found.status, found.error) == (
            431,
            f"the request's head has more than {MAX_HEAD_BYTES} bytes",
        )


def chunked_head() -> bytes:
    return (
        b"POST /v2/models/simple/infer HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: 0\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )


async def test_a_body_may_come_in_so_many_chunks_and_no_more(running: Front) -> None:
    async with peer(running.port) as other:
        await other.send(chunked_head() + b"1\r\nA\r\n" * MAX_CHUNKS + b"0\r\n\r\n")
        assert (await other.answer()).error.startswith("Raw request must only have 1 input")
    async with peer(running.port) as other:
        with contextlib.suppress(ConnectionError):
            await other.send(chunked_head() + b"1\r\nA\r\n" * (3 * MAX_CHUNKS) + b"0\r\n\r\n")
        found = await other.answer()
        assert (found.status, found.error) == (
            400,
            f"Chunked request body exceeds maximum of {MAX_CHUNKS} non-empty chunks. "
            "Send fewer or larger HTTP chunks.",
        )


async def test_chunks_beside_a_length_count_and_no_request_hides_behind_them(
    running: Front, fake: FakeTriton
) -> None:
    """Some clients send both; a proxy that believes the length must not pass a second request on unseen."""
    async with peer(running.port) as other:
        head = b"POST /v2/logging HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n"
        hidden = b"POST /v2/repository/models/m/load HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
        await other.send(head + b"2\r\n{}\r\n0\r\n\r\n" + hidden)
        found = await other.answer()
        assert (found.status, found.headers["connection"]) == (200, "close")
        assert await other.is_closed()
    assert len(fake.asked) == 1


async def test_endless_trailers_are_refused(running: Front) -> None:
    async with peer(running.port) as other:
        with contextlib.suppress(ConnectionError):
            await other.send(chunked_head() + b"1\r\nA\r\n0\r\n" + b"X: " + b"a" * 8 * 2**20)
        assert "are not its body" in (await other.answer()).error


async def test_a_head_that_does_not_end_in_time_is_given_up(fake: FakeTriton) -> None:
    async with front(fake, stall_s=0.3) as started, peer(started.port) as other:
        await other.send(b"GET /v2 HTTP/1.1\r\nHo")
        found = await other.answer()
        assert (found.status, found.error) == (408, "the request's head was not complete after 0.3 seconds")
        assert await other.is_closed()


async def test_a_body_that_stalls_is_given_up(fake: FakeTriton) -> None:
    async with front(fake, stall_s=0.3) as started, peer(started.port) as other:
        await other.send(b"POST /v2/logging HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{}")
        found = await other.answer()
        assert found.status == 408
        assert "--http-stall-timeout-secs" in found.error
        assert await other.is_closed()


async def test_an_answer_that_nobody_reads_is_given_up(fake: FakeTriton) -> None:
    """The peer asks for more than all buffers hold, and reads nothing."""
    async with front(fake, stall_s=0.3) as started:
        values = bytes(64 * 2**20)
        head = b"POST /v2/models/raw/infer HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: 0\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", started.port, limit=1_024)
        writer.write(head + b"Content-Length: %d\r\n\r\n" % len(values) + values)
        await writer.drain()
        await started.server._application.idle.wait()
        got = 0
        with contextlib.suppress(ConnectionResetError):
            while data := await reader.read(2**20):
                got += len(data)
        assert got < len(values)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_an_idle_connection_is_closed_whether_it_ever_asked_or_not(fake: FakeTriton) -> None:
    async with front(fake, keep_alive_s=0.3) as started:
        async with peer(started.port) as other:
            assert await other.is_closed()
        async with peer(started.port) as other:
            assert (await other.ask("GET", "/v2")).status == 200
            assert await other.is_closed()


async def test_too_many_connections_are_refused(fake: FakeTriton) -> None:
    async with front(fake, max_connections=1) as started, peer(started.port) as first:
        assert (await first.ask("GET", "/v2")).status == 200
        async with peer(started.port) as second:
            found = await second.answer()
            assert found.status == 503
            assert found.error == "2 connections are open, the limit is 1 (--http-max-connections)"
            assert await second.is_closed()
        assert (await first.ask("GET", "/v2")).status == 200


async def test_a_peer_that_leaves_cancels_its_inference(running: Front, fake: FakeTriton) -> None:
    async with peer(running.port) as other:
        asked = asyncio.ensure_future(other.ask("POST", SLOW_PATH, SLOW))
        await fake.started.wait()
        other.writer.transport.abort()
        await fake.cancelled.wait()
        with pytest.raises((EOFError, ConnectionError)):
            await asked
    assert (await ask(running.port, "GET", "/v2")).status == 200
    assert fake.calls.accepted == 0


async def test_a_peer_that_leaves_in_the_middle_of_its_body_is_forgotten(
    running: Front, fake: FakeTriton
) -> None:
    async with peer(running.port) as other:
        head = b"POST /v2/logging HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n"
        await other.send(head + b"{}")
        assert (await other.answer()).status == 100
        assert fake.calls.accepted == 1
        other.writer.transport.abort()
        await running.server._application.idle.wait()
    assert fake.calls.accepted == 0
    assert fake.asked == []


async def test_a_refused_body_is_thrown_away_and_the_connection_lives_on(running: Front) -> None:
    async with peer(running.port) as other:
        assert (await other.ask("POST", "/v2/nothing", bytes(3_000_000))).status == 404
        assert (await other.ask("GET", "/v2")).status == 200


async def test_a_stop_answers_what_is_at_work_and_refuses_what_comes(fake: FakeTriton) -> None:
    async with front(fake) as started, peer(started.port) as busy, peer(started.port) as other:
        assert (await other.ask("GET", "/v2")).status == 200
        asked = asyncio.ensure_future(busy.ask("POST", SLOW_PATH, SLOW))
        await fake.started.wait()
        stopping = asyncio.ensure_future(started.stop(30))
        await asyncio.sleep(0)
        for path in ("/v2/health/live", "/v2/health/ready"):
            found = await ask(started.port, "GET", path)
            assert (found.status, found.error) == (503, "Server exiting")
        found = await other.ask("GET", "/v2")
        assert (found.status, found.headers["connection"]) == (503, "close")
        assert found.error == "HTTP server is shutting down and has stopped accepting new requests."
        assert not stopping.done()
        fake.release.set()
        found = await asked
        assert (found.status, found.headers["connection"]) == (200, "close")
        assert found.json["outputs"][0]["data"] == [1.0]
        assert await stopping
        with pytest.raises(ConnectionRefusedError):
            await ask(started.port, "GET", "/v2/health/live")


async def test_a_stop_without_patience_cancels_what_is_at_work(fake: FakeTriton) -> None:
    async with front(fake) as started, peer(started.port) as busy:
        asked = asyncio.ensure_future(busy.ask("POST", SLOW_PATH, SLOW))
        await fake.started.wait()
        assert not await started.stop(0.01)
        assert fake.cancelled.is_set()
        with pytest.raises((EOFError, ConnectionError)):
            await asked
        assert await started.stop(1)  # a second time there is nothing to wait for


async def test_a_stop_does_not_wait_long_for_a_body_that_does_not_come(
    fake: FakeTriton, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer may be dead, and its patience is not the server's."""
    monkeypatch.setattr(body, "DRAIN_STALL_S", 0.05)
    async with front(fake) as started, peer(started.port) as slow:
        await slow.send(f"POST {SLOW_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc".encode())
        while started.server._application.idle.is_set():  # noqa: ASYNC110  # the server has no event for it
            await asyncio.sleep(0)
        assert await asyncio.wait_for(started.stop(30), 20)
        assert (await slow.answer()).status == 408


async def test_a_stop_closes_idle_connections(fake: FakeTriton) -> None:
    async with front(fake) as started, peer(started.port) as idle:
        assert (await idle.ask("GET", "/v2")).status == 200
        assert await started.stop(30)
        assert await idle.is_closed()


async def test_the_drain_of_the_whole_server_is_the_front_ends_too(running: Front, fake: FakeTriton) -> None:
    fake.calls.begin_drain()
    assert (await ask(running.port, "GET", "/v2/health/live")).status == 503
    assert (await ask(running.port, "GET", "/v2")).status == 503


async def test_the_process_keeps_its_signal_handlers(fake: FakeTriton) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    async with front(fake):
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
