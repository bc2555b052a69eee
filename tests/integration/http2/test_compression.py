"""Compressed messages, both ways."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

import pytest
from support.http2_peer import Peer, head, message
from support.http2_served import (
    INFER,
    LIVE,
    MAX_MESSAGE,
    STREAM,
    echo_request,
    echoed,
    echoed_on_stream,
    lives,
    own,
    served,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.http2_served import Served

SQUEEZE: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
PLAIN = b"naiad" * 4_000


def outcome(peer: Peer, path: str, data: bytes, **changed: str) -> tuple[int | None, str]:
    stream = peer.start(head(path, **changed))
    peer.send_data(stream, data, end=True)
    answer = peer.answer(stream)
    return answer.status, answer.text


@pytest.mark.parametrize("encoding", SQUEEZE)
def test_compressed_requests_are_taken(peer: Peer, encoding: str) -> None:
    stream = peer.start(head(INFER, grpc_encoding=encoding))
    peer.send_data(stream, message(SQUEEZE[encoding](echo_request(PLAIN)), 1), end=True)
    [answer] = peer.answer(stream).messages()
    assert echoed(answer) == PLAIN


@pytest.mark.parametrize("encoding", SQUEEZE)
def test_a_stream_may_mix_compressed_and_plain_messages(peer: Peer, encoding: str) -> None:
    stream = peer.start(head(STREAM, grpc_encoding=encoding))
    for n in range(6):
        sent = echo_request(PLAIN[: 100 * n + 1])
        peer.send_data(stream, message(SQUEEZE[encoding](sent), 1) if n % 2 else message(sent))
    peer.send_data(stream, b"", end=True)
    answers = peer.answer(stream).messages()
    assert [echoed_on_stream(each) for each in answers] == [PLAIN[: 100 * n + 1] for n in range(6)]


def test_a_compressed_message_of_nothing_is_the_empty_one(peer: Peer) -> None:
    assert outcome(peer, LIVE, message(gzip.compress(b""), 1), grpc_encoding="gzip")[0] == 0


@pytest.mark.parametrize("encoding", ["snappy", "br", "GZIP", "gzip2", ""])
def test_an_unknown_encoding_is_refused_with_those_that_are_known(
    peer: Peer, transport: str, encoding: str
) -> None:
    """Core refuses it as INTERNAL; gRPC's own page wants UNIMPLEMENTED and what would be taken."""
    stream = peer.start(head(LIVE, grpc_encoding=encoding))
    peer.send_data(stream, message(b"x", 1), end=True)
    answer = peer.answer(stream)
    if transport == "naiad":
        assert answer.status == 12
        known = (answer.field("grpc-accept-encoding") or "").replace(" ", "").split(",")
        assert {"identity", "gzip", "deflate"} <= set(known)
    else:
        assert answer.status in (12, 13)
    lives(peer)


@pytest.mark.parametrize("encoding", [None, "identity"])
@pytest.mark.parametrize("path", [LIVE, STREAM])
def test_the_flag_without_an_encoding_is_refused(peer: Peer, path: str, encoding: str | None) -> None:
    changed = {"grpc_encoding": encoding} if encoding else {}
    assert outcome(peer, path, message(gzip.compress(b""), 1), **changed)[0] == 13
    lives(peer)


@pytest.mark.parametrize("path", [LIVE, STREAM])
@pytest.mark.parametrize("encoding", SQUEEZE)
@pytest.mark.parametrize("damage", ["garbage", "cut", "sum", "tail"])
def test_damaged_messages_are_refused(
    peer: Peer, transport: str, path: str, encoding: str, damage: str
) -> None:
    if damage == "tail":
        own(transport, "takes what stands behind the end of the compressed bytes")
    whole = SQUEEZE[encoding](echo_request(PLAIN))
    sent = {
        "garbage": b"\x55" * 50,
        "cut": whole[:-9],
        "sum": whole[:-6] + bytes(6),
        "tail": whole + b"tail",
    }[damage]
    stream = peer.start(head(path, grpc_encoding=encoding))
    peer.send_data(stream, message(sent, 1), end=True)
    answer = peer.answer(stream)
    assert answer.status == 13
    assert "ecompress" in answer.text
    lives(peer)


def bomb(encoding: str, megabytes: int) -> bytes:
    """About a kilobyte for each megabyte of zeros that it inflates to."""
    deflate = zlib.compressobj(9, wbits=-15)
    megabyte = deflate.compress(bytes(2**20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    start = {"gzip": b"\x1f\x8b\x08" + bytes(7), "deflate": b"\x78\x9c"}[encoding]
    return start + megabyte * megabytes


@pytest.mark.parametrize("encoding", SQUEEZE)
def test_a_bomb_is_refused_at_the_limit(peer: Peer, encoding: str) -> None:
    status, text = outcome(peer, INFER, message(bomb(encoding, 512), 1), grpc_encoding=encoding)
    assert status == 8
    assert "ecompressed message larger than max" in text
    assert str(MAX_MESSAGE) in text or "max" in text
    lives(peer)


@pytest.fixture(scope="module")
def compressing(folder: Path, transport: str) -> Iterator[Served]:
    with served(folder, transport, grpc_infer_response_compression_level="high").running() as running:
        yield running
        assert not running.errors()


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("identity,gzip", "gzip"),
        ("identity, deflate, gzip", "deflate"),
        ("identity,deflate", "deflate"),
        ("identity", None),
        ("snappy,br", None),
        (None, None),
    ],
)
def test_answers_are_compressed_as_the_client_takes_them(
    compressing: Served, accepted: str | None, encoding: str | None
) -> None:
    with Peer(compressing.address) as peer:
        changed = {"grpc_accept_encoding": accepted} if accepted else {}
        answer = peer.call(INFER, echo_request(PLAIN), **changed)
        assert answer.field("grpc-encoding") in (encoding, None if encoding else "identity")
        assert answer.data[0] == (encoding is not None)
        [got] = answer.messages()
        if encoding:
            assert len(got) < 1_000
            got = zlib.decompress(got, wbits=47)
        assert echoed(got) == PLAIN


def test_an_answer_that_would_not_shrink_is_not_compressed(compressing: Served) -> None:
    with Peer(compressing.address) as peer:
        answer = peer.call(LIVE, b"", grpc_accept_encoding="gzip")
        assert answer.data[0] == 0
        assert answer.status == 0
