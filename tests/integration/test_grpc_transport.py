"""gRPC's transport on real sockets: restrictions, pings, ages, compression, ports. TLS has a file of its own."""

from __future__ import annotations

import asyncio
import queue
import resource
import socket
import zlib
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.grpc_front import front
from support.raw_grpc import raw_call
from support.triton import infer_input
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from naiad.core.errors import UnavailableError
from naiad.services.grpc_restrictions import METHOD_CATEGORIES
from naiad.services.grpc_settings import CompressionLevel, GrpcSettings
from naiad.services.grpc_transport import check_port_free, create_server
from naiad.services.restricted import Category, parse_restrictions

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

INFER = "/inference.GRPCInferenceService/ModelInfer"
SECRET = ("triton-grpc-protocol-k", "v")
REFUSED = "This protocol is restricted, expecting header 'triton-grpc-protocol-k'"


def rules(*categories: str) -> Any:
    return parse_restrictions([f"{','.join(categories)}:k=v"], flag="--grpc-restricted-protocol")


async def outcome(
    address: str, path: str, metadata: Iterable[tuple[str, str]] = (), message: bytes = b""
) -> tuple[grpc.StatusCode, str]:
    """Status and text of a call to any kind of method: it sends one message and no more, and takes what comes.

    On the wire all kinds are one. As a unary call the message leaves with the opening; a stream's write of its own
    may meet a call that is over already, which grpc.aio reports in place of the status.
    """
    async with grpc.aio.insecure_channel(address) as channel:
        return await outcome_on(channel, path, metadata, message)


async def outcome_on(
    channel: grpc.aio.Channel, path: str, metadata: Iterable[tuple[str, str]] = (), message: bytes = b""
) -> tuple[grpc.StatusCode, str]:
    """The same on a channel that is open."""
    call = channel.unary_stream(path, None, None)(message, metadata=tuple(metadata), timeout=20)
    try:
        async for _ in call:
            if path.endswith("/Watch"):
                call.cancel()
                return grpc.StatusCode.OK, ""
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    return await call.code(), await call.details()


# Restricted protocols


async def test_no_method_escapes_its_restriction() -> None:
    """Each method of each service, streams and health and reflection too; its header alone opens it."""
    async with front(restrictions=rules(*Category)) as address, grpc.aio.insecure_channel(address) as channel:
        for path in METHOD_CATEGORIES:
            assert await outcome_on(channel, path) == (grpc.StatusCode.UNAVAILABLE, REFUSED), path
            opened = await outcome_on(channel, path, [SECRET])
            assert REFUSED not in opened[1], path


@pytest.mark.parametrize("category", Category)
async def test_a_rule_closes_its_own_category_and_no_other(category: Category) -> None:
    async with front(restrictions=rules(category)) as address, grpc.aio.insecure_channel(address) as channel:
        for path, own in METHOD_CATEGORIES.items():
            _, text = await outcome_on(channel, path)
            assert (text == REFUSED) is (own is category), path


@pytest.mark.parametrize(
    "metadata",
    [
        [("triton-grpc-protocol-k", "w")],
        [("triton-grpc-protocol-k", "")],
        [("triton-grpc-protocol-k", "v,v")],
        [("triton-grpc-protocol-kk", "v")],
        [("k", "v")],
    ],
)
async def test_nothing_but_the_header_with_its_value_opens(metadata: list[tuple[str, str]]) -> None:
    async with front(restrictions=rules("health")) as address:
        path = "/inference.GRPCInferenceService/ServerLive"
        assert await outcome(address, path, metadata) == (grpc.StatusCode.UNAVAILABLE, REFUSED)


@pytest.mark.parametrize(
    "path",
    [
        "//inference.GRPCInferenceService/ModelInfer",
        "/inference.GRPCInferenceService/ModelInfer/",
        "/inference.GRPCInferenceService/%4dodelInfer",
        "/inference.grpcinferenceservice/ModelInfer",
        "/inference.GRPCInferenceService/../inference.GRPCInferenceService/ModelInfer",
    ],
)
async def test_another_spelling_of_a_path_is_no_way_around(path: str) -> None:
    async with front(restrictions=rules("inference")) as address:
        code, _ = await outcome(address, path)
        assert code is grpc.StatusCode.UNIMPLEMENTED


async def test_a_method_without_a_category_is_refused_while_rules_are_set() -> None:
    """What a later service brings must not be open because nobody sorted it."""
    server = create_server(GrpcSettings(address="127.0.0.1", port=0, restrictions=rules("health")))

    async def answer(_request: bytes, _context: Any) -> bytes:
        return b""

    handlers = {"New": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("later.Service", handlers),))
    port = await server.start()
    try:
        code, text = await outcome(f"127.0.0.1:{port}", "/later.Service/New", [SECRET])
    finally:
        await server.stop(0)
    assert (code, text) == (
        grpc.StatusCode.UNAVAILABLE,
        "This protocol is restricted, and no header opens it",
    )


async def test_a_stock_client_reads_what_is_missing_and_gets_in_with_it() -> None:
    async with front(restrictions=rules("health", "inference")) as address:
        await asyncio.to_thread(stock_client_meets_restrictions, address)


def stock_client_meets_restrictions(address: str) -> None:
    with triton.InferenceServerClient(address) as client:
        with pytest.raises(InferenceServerException) as raised:
            client.is_server_live()
        assert raised.value.status() == "StatusCode.UNAVAILABLE"
        assert raised.value.message() == REFUSED
        assert client.is_server_live(headers=dict([SECRET]))

        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        client.start_stream(lambda result, error: answers.put(error or result))
        # Refused as it opens; the client has nothing to send any more.
        assert REFUSED in str(answers.get(timeout=20))
        client.stop_stream()
        client.start_stream(lambda result, error: answers.put(error or result), headers=dict([SECRET]))
        client.async_stream_infer("m", [infer_input("A", np.zeros(1, np.int32))])
        assert answers.get(timeout=20).get_response().model_name == "m"


async def test_a_refused_request_is_not_even_read() -> None:
    """A message of 8 MiB would be over the limit of 1 MiB; the refusal comes first."""
    async with front(restrictions=rules("inference"), max_message_bytes=2**20) as address:
        assert await outcome(address, INFER, message=bytes(2**23)) == (grpc.StatusCode.UNAVAILABLE, REFUSED)
        code, _ = await outcome(address, INFER, [SECRET], message=bytes(2**23))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


# Pings and ages


def pinging_channel(address: str) -> grpc.aio.Channel:
    """As simple_grpc_keepalive_client, only that it really pings: as often as gRPC lets it, once a second."""
    options = [
        ("grpc.keepalive_time_ms", 20),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    return grpc.aio.insecure_channel(address, options=options)


async def test_a_client_that_pings_too_often_is_disconnected_and_by_a_lenient_server_is_not() -> None:
    """Both clients ping alike; once the strict server has thrown its own out, the lenient one's is still there."""
    async with (
        front() as strict,
        front(http2_min_recv_ping_interval_without_data_ms=1) as lenient,
        pinging_channel(strict) as thrown_out,
        pinging_channel(lenient) as welcome,
    ):
        request = health_pb2.HealthCheckRequest()
        kept = health_pb2_grpc.HealthStub(welcome).Watch(request)
        ended = health_pb2_grpc.HealthStub(thrown_out).Watch(request)
        await kept.read()
        await ended.read()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await asyncio.wait_for(ended.read(), 20)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert raised.value.details() == "Too many pings"
        assert not kept.done()


async def test_a_stock_client_with_the_examples_keepalive_options_infers() -> None:
    options = triton.KeepAliveOptions(
        keepalive_time_ms=2**31 - 1,
        keepalive_timeout_ms=20_000,
        keepalive_permit_without_calls=False,
        http2_max_pings_without_data=2,
    )

    def infer(address: str) -> str:
        with triton.InferenceServerClient(address, keepalive_options=options) as client:
            answer: str = (
                client.infer("m", [infer_input("A", np.zeros(1, np.int32))]).get_response().model_name
            )
            return answer

    async with front() as address:
        assert await asyncio.to_thread(infer, address) == "m"


async def test_a_connection_ends_at_its_age_and_the_client_comes_back() -> None:
    """The open stream has the grace to end in, then is cut; the next call finds the server again."""
    async with (
        front(max_connection_age_ms=100, max_connection_age_grace_ms=50) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await asyncio.wait_for(watch.read(), 20)
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "max connection age" in str(raised.value.debug_error_string()).replace("_", " ").lower()
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert (await stub.ServerLive(pb.ServerLiveRequest(), wait_for_ready=True)).live


# Compression

COMPRESSIBLE = pb.ModelInferRequest(model_name="m", raw_input_contents=[bytes(50_000)])


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_requests_may_come_compressed(compression: grpc.Compression) -> None:
    async with front() as address, grpc.aio.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = await stub.ModelInfer(COMPRESSIBLE, compression=compression)
        assert answer.raw_output_contents[0] == bytes(50_000)


@pytest.mark.parametrize(
    ("level", "accept", "magic"),
    [
        (CompressionLevel.NONE, "identity,deflate,gzip", None),
        (CompressionLevel.LOW, "identity,deflate,gzip", b"\x1f\x8b"),
        (CompressionLevel.MEDIUM, "identity,deflate,gzip", b"\x78"),
        (CompressionLevel.HIGH, "identity,deflate,gzip", b"\x78"),
        (CompressionLevel.HIGH, "identity,gzip", b"\x1f\x8b"),
        (CompressionLevel.HIGH, "identity", None),
    ],
)
async def test_responses_are_compressed_by_level_and_only_as_the_client_takes_them(
    level: CompressionLevel, accept: str, magic: bytes | None
) -> None:
    """Read off the wire; None is not compressed."""
    async with front(compression_level=level) as address:
        answer = await raw_call(address, INFER, COMPRESSIBLE.SerializeToString(), accept=accept)
    assert answer.compressed is (magic is not None)
    inflated = answer.message
    if magic is not None:
        assert inflated.startswith(magic)
        assert len(inflated) < 1_000
        inflated = zlib.decompress(inflated, wbits=47)  # gzip or zlib, whichever it is
    assert pb.ModelInferResponse.FromString(inflated).raw_output_contents[0] == bytes(50_000)


async def test_an_answer_that_would_not_shrink_is_sent_as_it_is() -> None:
    noise = np.random.default_rng(0).bytes(10_000)
    request = pb.ModelInferRequest(raw_input_contents=[noise])
    async with front(compression_level=CompressionLevel.HIGH) as address:
        answer = await raw_call(address, INFER, request.SerializeToString(), accept="identity,deflate,gzip")
    assert not answer.compressed


def bomb(encoding: str) -> bytes:
    """About one megabyte that inflates to one gigabyte of zeros."""
    deflate = zlib.compressobj(9, wbits=-15)
    # Flushed in full, a block needs nothing before it and can be repeated.
    megabyte = deflate.compress(bytes(2**20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    head = {"gzip": b"\x1f\x8b\x08" + bytes(7), "deflate": b"\x78\x9c"}[encoding]
    return head + megabyte * 1_024


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_decompression_bomb_is_refused_before_it_inflates(encoding: str) -> None:
    sent = bomb(encoding)
    assert len(sent) < 1.1 * 2**20
    async with front(max_message_bytes=4 * 2**20) as address:
        peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer = await raw_call(address, INFER, sent, encoding=encoding)
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kib
        assert b"Decompressed message larger than max" in answer.headers
        assert answer.data == b""
        assert grown_kib < 64 * 1_024
        assert (await outcome(address, INFER))[0] is grpc.StatusCode.OK


# Ports


async def test_two_servers_share_a_port_only_when_both_ask_for_it() -> None:
    async with front(reuse_port=True) as address:
        port = int(address.rsplit(":", 1)[1])
        async with front(port=port, reuse_port=True) as second:
            assert second == address
        check_port_free("127.0.0.1", port, reuse_port=True)
        with pytest.raises(UnavailableError, match=rf"cannot listen on 127.0.0.1:{port} \(--grpc-address"):
            check_port_free("127.0.0.1", port)
        alone = GrpcSettings(address="127.0.0.1", port=port)
        with pytest.raises(UnavailableError, match=rf"cannot listen on 127.0.0.1:{port} \(--grpc-address"):
            await create_server(alone).start()


async def test_a_port_that_somebody_else_holds_is_not_shared_either() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        with pytest.raises(UnavailableError, match="Address already in use"):
            check_port_free("127.0.0.1", holder.getsockname()[1], reuse_port=True)


@pytest.mark.parametrize("listening", ["unix:{folder}/naiad.sock", "::1"])
async def test_a_socket_path_or_ipv6_is_listened_on(listening: str, tmp_path: Path) -> None:
    settings = GrpcSettings(address=listening.format(folder=tmp_path), port=0)
    server = create_server(settings)
    port = await server.start()
    target = settings.address if listening.startswith("unix") else f"[::1]:{port}"
    try:
        code, text = await outcome(target, INFER)
        assert (code, text) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
    finally:
        await server.stop(0)
