"""What servicers see of a call and say in it, by unmodified grpc.aio clients: the same over either transport."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc.aio import EOF  # type: ignore[attr-defined]  # not in its stubs
from support.http2_served import own

from naiad.services.grpc_settings import GrpcSettings, Transport
from naiad.services.grpc_transport import create_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

BINARY = bytes(range(256))
TEXT = "not found: 100 % gr\u00fc\u00dfe \U0001f600\n~\x7f"


class Servicer:
    """Methods over plain bytes; what they saw is kept for the test."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.began = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.done = asyncio.Event()

    async def mirror(self, request: bytes, context: Any) -> bytes:
        """Metadata back as it came, at both ends of the answer."""
        mine = tuple((key, value) for key, value in context.invocation_metadata() if key.startswith("x-"))
        await context.send_initial_metadata(mine)
        context.set_trailing_metadata((*mine, ("x-z-peer", context.peer())))
        self.seen.append(tuple(context.invocation_metadata()))
        return request

    async def refuse(self, request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, TEXT, (("x-why-bin", BINARY), ("x-retry", "7")))
        raise AssertionError

    async def coded(self, request: bytes, context: Any) -> bytes:
        """As generated code says that a method is not there; with a request it returns instead of raising."""
        context.set_code(grpc.StatusCode.UNIMPLEMENTED)
        context.set_details("not here")
        if not request:
            raise NotImplementedError
        return b""

    async def remaining(self, request: bytes, context: Any) -> bytes:
        return str(context.time_remaining()).encode()

    async def hang(self, request: bytes, context: Any) -> bytes:
        context.add_done_callback(lambda _: self.done.set())
        self.began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError

    async def both(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        try:
            async for each in requests:
                yield each * 2
            yield b"end"
        finally:
            self.done.set()

    async def join(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"|".join([each async for each in requests])

    async def many(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for number in range(int(request)):
            self.seen.append(number)
            yield bytes(100_000)

    async def early(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """Ends after the first message, whatever the client still sends."""
        async for each in requests:
            yield each
            break

    def handlers(self) -> grpc.GenericRpcHandler[Any, Any]:
        unary = {"Mirror": self.mirror, "Refuse": self.refuse, "Remaining": self.remaining, "Hang": self.hang}
        unary["Coded"] = self.coded
        methods: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(behavior) for name, behavior in unary.items()
        }
        methods["Both"] = grpc.stream_stream_rpc_method_handler(self.both)
        methods["Early"] = grpc.stream_stream_rpc_method_handler(self.early)
        methods["Join"] = grpc.stream_unary_rpc_method_handler(self.join)
        methods["Many"] = grpc.unary_stream_rpc_method_handler(self.many)
        return grpc.method_handlers_generic_handler("t.T", methods)


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
async def channel(servicer: Servicer, transport: str) -> AsyncIterator[Any]:
    async with serving(servicer, transport) as address, grpc.aio.insecure_channel(address) as connected:
        yield connected


@asynccontextmanager
async def serving(servicer: Servicer, transport: str) -> AsyncIterator[str]:
    server = create_server(GrpcSettings(address="127.0.0.1", port=0, transport=Transport(transport)))
    server.add_generic_rpc_handlers((servicer.handlers(),))
    port = await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


def own_of(metadata: Any) -> list[tuple[str, str | bytes]]:
    """The test's own entries by key, as gRPC's clients order them."""
    return sorted(
        ((key, value) for key, value in metadata if key.startswith("x-")), key=lambda entry: entry[0]
    )


async def test_metadata_goes_both_ways_as_it_is(channel: Any, servicer: Servicer) -> None:
    """Texts with spaces and commas, the same key twice, and all 256 bytes under `-bin`; of one key in their order."""
    sent = (
        ("x-a", "1"),
        ("x-b", "a, b ; c"),
        ("x-a", "2"),
        ("x-raw-bin", BINARY),
        ("x-none-bin", b""),
        ("x-e", ""),
    )
    call = channel.unary_unary("/t.T/Mirror")(b"hello", metadata=sent)
    assert await call == b"hello"
    [seen] = servicer.seen
    assert own_of(seen) == own_of(sent)
    first, last = await call.initial_metadata(), await call.trailing_metadata()
    assert first is not None
    assert last is not None
    assert own_of(first) == own_of(sent)
    assert own_of(last)[:-1] == own_of(sent)
    assert str(dict(last)["x-z-peer"]).startswith("ipv4:127.0.0.1:")


async def test_a_servicer_sees_what_the_client_said_and_nothing_of_the_wire(
    channel: Any, servicer: Servicer
) -> None:
    await channel.unary_unary("/t.T/Mirror")(b"", metadata=(("x-a", "1"),), timeout=30)
    [seen] = servicer.seen
    names = {key for key, _ in seen}
    assert "user-agent" in names
    assert not names & {
        "te",
        "content-type",
        "grpc-timeout",
        "grpc-encoding",
        ":path",
        ":method",
        "grpc-accept-encoding",
    }


async def test_an_abort_carries_its_text_and_metadata(channel: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await channel.unary_unary("/t.T/Refuse")(b"")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    assert raised.value.details() == TEXT
    told: Any = raised.value.trailing_metadata()
    trailing = {key: value for key, value in told if key.startswith("x-")}
    assert trailing == {"x-why-bin": BINARY, "x-retry": "7"}


@pytest.mark.parametrize("request_bytes", [b"", b"x"], ids=["raises", "returns"])
async def test_a_status_that_is_set_ends_the_call(channel: Any, transport: str, request_bytes: bytes) -> None:
    if not request_bytes:
        own(transport, "keeps the code alone, and logs what was raised")
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await channel.unary_unary("/t.T/Coded")(request_bytes)
    assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, "not here")


async def test_the_time_that_remains_is_the_clients(channel: Any) -> None:
    ask = channel.unary_unary("/t.T/Remaining")
    assert await ask(b"") == b"None"
    assert 20 < float(await ask(b"", timeout=30)) <= 31


@pytest.mark.parametrize("how", ["cancel", "deadline", "leave"])
async def test_a_servicer_is_cancelled_when_its_caller_is_gone(
    servicer: Servicer, transport: str, how: str
) -> None:
    async with serving(servicer, transport) as address:
        channel: Any = grpc.aio.insecure_channel(address)
        call = channel.unary_unary("/t.T/Hang")(b"", timeout=0.3 if how == "deadline" else None)
        waiting = asyncio.ensure_future(call.code())
        await asyncio.wait_for(servicer.began.wait(), 10)
        if how == "cancel":
            call.cancel()
        elif how == "leave":
            await channel.close()
        await asyncio.wait_for(servicer.cancelled.wait(), 10)
        await asyncio.wait_for(servicer.done.wait(), 10)
        expected = grpc.StatusCode.DEADLINE_EXCEEDED if how == "deadline" else grpc.StatusCode.CANCELLED
        assert await asyncio.wait_for(waiting, 10) is expected
        await channel.close()


async def test_messages_go_both_ways_as_they_come(channel: Any) -> None:
    call = channel.stream_stream("/t.T/Both")()
    for number in range(50):
        await call.write(bytes([number]))
        assert await call.read() == bytes([number]) * 2
    await call.done_writing()
    assert await call.read() == b"end"
    assert await call.read() is EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_streams_servicer_is_ended_too(channel: Any, servicer: Servicer) -> None:
    call = channel.stream_stream("/t.T/Both")()
    await call.write(b"a")
    assert await call.read() == b"aa"
    call.cancel()
    await asyncio.wait_for(servicer.done.wait(), 10)


async def test_a_clients_stream_is_read_to_its_end(channel: Any) -> None:
    def messages() -> Iterator[bytes]:
        for number in range(30):
            yield bytes([number]) * number * 1_000

    joined = await channel.stream_unary("/t.T/Join")(messages())
    assert joined == b"|".join(messages())


async def test_a_client_that_reads_slowly_slows_its_servicer(channel: Any, servicer: Servicer) -> None:
    """200 MB are asked for and one message is read: the servicer is held up long before the end."""
    call = channel.unary_stream("/t.T/Many")(b"2000")
    assert len(await call.read()) == 100_000
    made = -1
    while made != len(servicer.seen):  # as long as it goes on
        made = len(servicer.seen)
        await asyncio.sleep(0.05)
    assert made < 1_000
    call.cancel()


async def test_a_stream_may_end_before_its_client_has(channel: Any) -> None:
    for _ in range(20):
        call = channel.stream_stream("/t.T/Early")()
        await call.write(b"only")
        assert await call.read() == b"only"
        assert await call.read() is EOF
        assert await call.code() is grpc.StatusCode.OK
    assert await channel.unary_unary("/t.T/Mirror")(b"after") == b"after"


async def test_a_thousand_calls_at_once(channel: Any) -> None:
    ask = channel.unary_unary("/t.T/Mirror")

    async def one(number: int) -> bool:
        sent = str(number).encode() * 100
        return bool(await ask(sent) == sent)

    assert all(await asyncio.gather(*map(one, range(1_000))))
