"""What makes the head of a call, what HTTP/2 does not allow, and what is refused as no call of gRPC."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc
import pytest
from hpack import Encoder

from naiad.services.http2 import frames
from naiad.services.http2.heads import CallHead, MalformedHeadError, RefusedHeadError, call_head

CALL = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/a.B/C"),
    (b":authority", b"here:1"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
)

Fields = tuple[tuple[bytes, bytes], ...]


def without(name: bytes) -> Fields:
    return tuple(field for field in CALL if field[0] != name)


def having(name: bytes, value: bytes) -> Fields:
    return tuple((key, value if key == name else was) for key, was in CALL)


def test_the_least_that_a_call_says() -> None:
    assert call_head(CALL) == CallHead("/a.B/C", None, "identity", (), (), "here:1")


def test_all_that_a_call_says() -> None:
    head = call_head(
        (
            *CALL,
            (b"user-agent", b"me/1"),
            (b"grpc-timeout", b"20m"),
            (b"grpc-encoding", b"gzip"),
            (b"grpc-accept-encoding", b"identity, deflate,gzip,"),
            (b"x-b", b"2"),
            (b"x-a", b"1"),
            (b"x-b", b"3"),
            (b"x-bin", b"AAEC"),
        )
    )
    assert head == CallHead(
        path="/a.B/C",
        timeout_ns=20_000_000,
        encoding="gzip",
        accepts=("identity", "deflate", "gzip"),
        metadata=(("user-agent", "me/1"), ("x-b", "2"), ("x-a", "1"), ("x-b", "3"), ("x-bin", b"\0\1\2")),
        authority="here:1",
    )


def test_of_grpcs_own_fields_the_last_one_counts() -> None:
    head = call_head((*CALL, (b"grpc-timeout", b"1S"), (b"grpc-timeout", b"2S"), (b"te", b"trailers")))
    assert head.timeout_ns == 2_000_000_000


def test_a_host_stands_for_a_missing_authority() -> None:
    assert call_head((*without(b":authority"), (b"host", b"there"))).authority == "there"
    assert call_head(without(b":authority")).authority == ""


@pytest.mark.parametrize(
    "value",
    [b"application/grpc", b"application/grpc+proto", b"application/grpc;charset=utf-8", b"Application/GRPC"],
)
def test_content_types_of_grpc(value: bytes) -> None:
    assert call_head(having(b"content-type", value)).path == "/a.B/C"


def test_te_may_be_absent_and_in_capitals() -> None:
    assert call_head(without(b"te")) == call_head(having(b"te", b"Trailers")) == call_head(CALL)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ((), "no pseudo header ':method'"),
        (without(b":method"), "no pseudo header ':method'"),
        (without(b":scheme"), "no pseudo header ':scheme'"),
        (without(b":path"), "no pseudo header ':path'"),
        (having(b":path", b""), "no pseudo header ':path'"),
        ((CALL[0], *CALL), "pseudo header ':method' is unknown, doubled or out of place"),
        (((b":protocol", b"x"), *CALL), "pseudo header ':protocol' is unknown"),
        (((b":status", b"200"), *CALL), "pseudo header ':status' is unknown"),
        ((*CALL[1:], CALL[0]), "pseudo header ':method' is unknown, doubled or out of place"),
        (((b"a", b"1"), *CALL), "pseudo header ':method' is unknown, doubled or out of place"),
        ((*CALL, (b"Upper", b"1")), "header name 'Upper' has characters"),
        ((*CALL, (b"Content-Type", b"application/grpc")), "header name 'Content-Type' has characters"),
        ((*CALL, (b"", b"1")), "header name '' has characters"),
        ((*CALL, (b"a b", b"1")), "header name 'a b' has characters"),
        ((*CALL, (b"a:b", b"1")), "header name 'a:b' has characters"),
        ((*CALL, (b"\xe9", b"1")), "header name 'é' has characters"),
        ((*CALL, (b"a\n", b"1")), "has characters"),
        ((*CALL, (b"connection", b"close")), "'connection' is of HTTP/1's"),
        ((*CALL, (b"keep-alive", b"1")), "'keep-alive' is of HTTP/1's"),
        ((*CALL, (b"proxy-connection", b"x")), "'proxy-connection' is of HTTP/1's"),
        ((*CALL, (b"transfer-encoding", b"chunked")), "'transfer-encoding' is of HTTP/1's"),
        ((*CALL, (b"upgrade", b"h2c")), "'upgrade' is of HTTP/1's"),
        (having(b"te", b"gzip"), "'te' is 'gzip'"),
        ((*CALL, (b"a", b"1\r2")), "the value of header 'a' has a NUL or a line's end"),
        ((*CALL, (b"a", b"1\n2")), "the value of header 'a' has"),
        ((*CALL, (b"a-bin", b"\0\1")), "the value of header 'a-bin' has"),
        ((*CALL, (b"grpc-timeout", b"1S\n")), "the value of header 'grpc-timeout' has"),
        (having(b":path", b"/a\0"), "pseudo header ':path'"),
    ],
)
def test_what_http_does_not_allow_ends_the_stream(fields: Fields, reason: str) -> None:
    with pytest.raises(MalformedHeadError) as caught:
        call_head(fields)
    assert reason in caught.value.reason
    assert caught.value.code == frames.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("fields", "http_status", "code", "message"),
    [
        (having(b":method", b"GET"), 405, "INTERNAL", "a call of gRPC has the method POST, not 'GET'"),
        (
            having(b"content-type", b"application/json"),
            415,
            "INVALID_ARGUMENT",
            "a call of gRPC has the content-type application/grpc, not 'application/json'",
        ),
        (
            having(b"content-type", b"application/grpc-web"),
            415,
            "INVALID_ARGUMENT",
            "a call of gRPC has the content-type application/grpc, not 'application/grpc-web'",
        ),
        (
            without(b"content-type"),
            415,
            "INVALID_ARGUMENT",
            "a call of gRPC has the content-type application/grpc, not ''",
        ),
        (
            (*CALL, (b"grpc-timeout", b"1s")),
            200,
            "INTERNAL",
            "Error parsing 'grpc-timeout' metadata: '1s' is not 1 to 8 digits and one of H, M, S, m, u, n",
        ),
        (
            (*CALL, (b"x-bin", b"!!!!")),
            200,
            "INTERNAL",
            "Error parsing 'x-bin' metadata: illegal base64 encoding",
        ),
        ((*CALL, (b"x!a", b"1")), 200, "INTERNAL", "Illegal header key: x!a"),
    ],
)
def test_what_is_no_call_of_grpc_is_refused(
    fields: Fields, http_status: int, code: str, message: str
) -> None:
    with pytest.raises(RefusedHeadError) as caught:
        call_head(fields)
    refused = caught.value
    assert (refused.http_status, refused.code.name, refused.message) == (http_status, code, message)


def test_a_refusal_quotes_no_more_than_a_little() -> None:
    with pytest.raises(RefusedHeadError) as caught:
        call_head(having(b"content-type", b"x" * 10_000))
    assert len(caught.value.message) < 200


# Fields whose place in `invocation_metadata` is gRPC's to say.
ASKED: Fields = (
    (b"user-agent", b"me/1"),
    (b"host", b"there"),
    (b"a", b"1"),
    (b"a", b"2"),
    (b"empty", b""),
    (b"spaces", b" b "),
    (b"tab", b"a\tb"),
    (b"utf-8", "é".encode()),
    (b"latin-1", b"\xff\xfe"),
    (b"commas", b"a,b"),
    (b"x-bin", b"AAEC"),
    (b"y-bin", b"AA=="),
    (b"z-bin", b""),
    (b"accept", b"*"),
    (b"accept-encoding", b"gzip"),
    (b"authorization", b"b"),
    (b"content-encoding", b"gzip"),
    (b"content-length", b"5"),
    (b"cookie", b"a=1"),
    (b"grpc-foo", b"x"),
    (b"grpc-previous-rpc-attempts", b"2"),
    (b"grpc-retry-pushback-ms", b"5"),
    (b"lb-token", b"t"),
    (b"trailer", b"t"),
    (b"grpc-accept-encoding", b"identity"),
    (b"grpc-encoding", b"identity"),
    (b"grpc-internal-encoding-request", b"gzip"),
    (b"grpc-message", b"m"),
    (b"grpc-status", b"3"),
    (b"grpc-tags-bin", b"AAEC"),
    (b"grpc-timeout", b"10S"),
    (b"grpc-trace-bin", b"AAEC"),
    (b"endpoint-load-metrics-bin", b"AAEC"),
    (b"grpc-server-stats-bin", b"AAEC"),
    (b"x-envoy-peer-metadata", b"p"),
)


async def test_the_metadata_are_those_that_grpcs_own_server_shows() -> None:
    """Its order differs: what its core knows comes first there."""
    fields = (*CALL, *ASKED)
    shown = await shown_by_grpc(fields)
    assert sorted(call_head(fields).metadata, key=str) == sorted(shown, key=str)


async def shown_by_grpc(fields: Fields) -> list[tuple[str, str | bytes]]:
    """The invocation metadata of a call at a server of `grpc.aio`."""
    seen: asyncio.Future[list[tuple[str, str | bytes]]] = asyncio.get_running_loop().create_future()

    async def answer(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        seen.set_result([(key, value) for key, value in context.invocation_metadata() or ()])
        return request

    server = grpc.aio.server()
    # The stubs know handlers of threads alone.
    handlers: dict[str, Any] = {"C": grpc.unary_unary_rpc_method_handler(cast("Any", answer))}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        block = frames.headers_frames(1, Encoder().encode(fields))
        data = frames.frame(frames.DATA, frames.END_STREAM, 1, bytes(5))
        writer.write(frames.PREFACE + frames.settings_frame({}) + block + data)
        return await asyncio.wait_for(seen, 10)
    finally:
        writer.close()
        await server.stop(None)
