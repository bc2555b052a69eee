"""Header blocks: HPACK that is wrong, fields that no request may have, blocks in parts, trailers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hpack import Encoder
from support.http2_peer import (
    END_HEADERS,
    END_STREAM,
    Code,
    Kind,
    Peer,
    Setting,
    frame,
    head,
    indexed_literals,
    literals,
    message,
)
from support.http2_served import IS_LIVE, LIVE, ends, lives, own

if TYPE_CHECKING:
    from support.http2_served import Served

HEAD = literals(head(LIVE))
BODY = frame(Kind.DATA, END_STREAM, 1, message(b""))


def asked(block: bytes) -> bytes:
    """A whole call of stream 1 with that header block."""
    return frame(Kind.HEADERS, END_HEADERS, 1, block) + BODY


# HPACK


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xbe",  # index 62 of an empty dynamic table
        b"\xff\xff\xff\xff\x0f",  # an index beyond everything
        b"\xff" + b"\xff" * 12 + b"\x00",  # an integer of too many bytes
        b"\x7f\xff",  # an integer that is not whole
        b"\x00\x05ab",  # a name cut off
        b"\x00\x01a\x7f\xff\xff\xff\x07ab",  # a value of 2**28 bytes
        b"\x00\x81\xff\x01a",  # Huffman's padding is longer than seven bits, or EOS
        b"\x00\x84\xff\xff\xff\xff\x01a",  # Huffman's end of string
        b"\x3f\xe1\xff\x03",  # the table to 65,536 bytes
        HEAD + b"\x20",  # a table's size after a field
    ],
    ids=[
        "index-0", "index-62", "index-huge", "integer-long", "integer-cut", "name-cut", "value-huge",
        "huffman-padding", "huffman-eos", "table-too-large", "size-update-late",
    ],
)  # fmt: skip
def test_a_block_that_is_no_hpack_ends_the_connection(peer: Peer, transport: str, block: bytes) -> None:
    if b"\xff\x01a" in block or block.endswith(b"\x20"):
        own(transport, "refuses the call alone, and takes a late change of the table's size")
    peer.send(asked(block))
    ends(peer, transport, Code.COMPRESSION_ERROR)


def test_the_table_may_be_made_smaller_and_larger_again_at_a_blocks_begin(peer: Peer) -> None:
    for update in (b"\x20", b"\x20\x3f\xe1\x1f", b"\x3f\xe1\x1f", b"\x3e"):
        stream = peer.take_stream()
        peer.send(frame(Kind.HEADERS, END_HEADERS, stream, update + HEAD))
        peer.send_data(stream, message(b""), end=True)
        assert peer.answer(stream).messages() == [IS_LIVE]


def test_the_table_is_kept_over_calls_and_over_refused_ones(peer: Peer) -> None:
    """A real encoder's blocks of indices only are right if every block before was read, even those of refused calls."""
    encoder = Encoder()
    fields = [head(LIVE, ("x-n", str(n % 7)), **({"te": "gzip"} if n % 3 == 1 else {})) for n in range(16)]
    for wanted in fields:
        stream = peer.take_stream()
        peer.send(frame(Kind.HEADERS, END_HEADERS, stream, encoder.encode(wanted)))
        peer.send(frame(Kind.DATA, END_STREAM, stream, message(b"")))
        answer = peer.answer(stream)
        if dict(wanted)["te"] == "trailers":
            assert answer.messages() == [IS_LIVE]
    assert len(peer.answers) == len(fields)


def test_the_same_bytes_mean_what_the_table_says_each_time(peer: Peer) -> None:
    """A block of indices alone: known, live or unknown as the head that was last remembered says."""
    unknown = "/no.Such/Method"
    again = bytes(0x80 | (62 + n) for n in reversed(range(len(head(LIVE)))))
    for path, status in [(LIVE, 0), (unknown, 12), (LIVE, 0), (unknown, 12), (unknown, 12), (LIVE, 0)]:
        for block in (indexed_literals(head(path)), again, again):
            stream = peer.take_stream()
            peer.send(frame(Kind.HEADERS, END_HEADERS, stream, block))
            peer.send(frame(Kind.DATA, END_STREAM, stream, message(b"")))
            assert peer.answer(stream).status == status


def test_entries_pushed_out_of_the_table_are_gone(peer: Peer, transport: str) -> None:
    """An entry of 4,050 bytes pushes all before it out; the index behind it is then none."""
    stream = peer.take_stream()
    peer.send(
        frame(
            Kind.HEADERS, END_HEADERS, stream, HEAD + indexed_literals([("x-a", "1"), ("x-b", "v" * 4_050)])
        )
    )
    peer.send_data(stream, message(b""), end=True)
    assert peer.answer(stream).messages() == [IS_LIVE]
    peer.send(frame(Kind.HEADERS, END_HEADERS, 3, HEAD + b"\xbf"))
    ends(peer, transport, Code.COMPRESSION_ERROR)


def test_our_smaller_table_is_kept_to_by_the_server(running: Served) -> None:
    """With no table at all the answers decode still: the peer's decoder refuses what would need one."""
    with Peer(running.address, {Setting.HEADER_TABLE_SIZE: 0}) as peer:
        peer._decoder.max_allowed_table_size = 0
        peer.settled()
        for _ in range(5):
            lives(peer)


# Fields that no request may have


def fields(*changes: tuple[str, str], first: bool = False) -> list[tuple[str, str]]:
    return [*changes, *head(LIVE)] if first else [*head(LIVE), *changes]


MALFORMED = {
    "upper-case": (fields(("X-Upper", "1")), ""),
    "no-method": (head(LIVE, without=[":method"]), ""),
    "no-path": (head(LIVE, without=[":path"]), ""),
    "no-scheme": (head(LIVE, without=[":scheme"]), ""),
    "empty-path": (head(""), ""),
    "two-methods": (fields((":method", "POST"), first=True), "takes it"),
    "two-paths": (fields((":path", LIVE), first=True), "takes it"),
    "two-schemes": (fields((":scheme", "http"), first=True), "takes it"),
    "two-authorities": (fields((":authority", "b"), first=True), ""),
    "unknown-pseudo": (fields((":naiad", "1"), first=True), ""),
    "status": (fields((":status", "200"), first=True), "takes it"),
    "pseudo-late": ([*head(LIVE, without=[":scheme"]), (":scheme", "http")], "takes it"),
    "connection": (fields(("connection", "close")), "takes it"),
    "keep-alive": (fields(("keep-alive", "1")), "takes it"),
    "proxy-connection": (fields(("proxy-connection", "close")), "takes it"),
    "transfer-encoding": (fields(("transfer-encoding", "chunked")), "takes it"),
    "upgrade": (fields(("upgrade", "h2c")), "takes it"),
    "te-gzip": (head(LIVE, te="gzip"), ""),
    "empty-name": (fields(("", "x")), ""),
    "space-in-name": (fields(("x y", "1")), ""),
    "newline-in-value": (fields(("x-y", "1\r\nx-z: 2")), "takes it"),
    "nul-in-value": (fields(("x-y", "1\x002")), "takes it"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_request_is_refused_and_no_other(peer: Peer, transport: str, case: str) -> None:
    """It never reaches a method; its neighbours on the connection do."""
    sent, core = MALFORMED[case]
    peer.take_stream()
    peer.send(asked(literals(sent)))
    fate = peer.fate(1)
    if transport == "naiad":
        assert fate == "reset PROTOCOL_ERROR"
    else:
        assert (fate == "status 0") is (core == "takes it")
    lives(peer)


def test_the_call_of_a_refused_head_does_not_run(peer: Peer, transport: str) -> None:
    assert transport
    peer.take_stream()
    peer.send(asked(literals(head(LIVE, te="gzip"))))
    assert peer.fate(1) != "status 0"
    assert not peer.answers[1].data


@pytest.mark.parametrize("scheme", ["http", "https", "grpc"])
def test_any_scheme_will_do(peer: Peer, transport: str, scheme: str) -> None:
    if scheme == "grpc":
        own(transport, "knows http and https")
    assert peer.call(LIVE, b"", scheme=scheme).messages() == [IS_LIVE]


def test_fields_that_a_browser_or_proxy_adds_are_fine(peer: Peer) -> None:
    more = [
        ("accept", "*/*"),
        ("content-length", "5"),
        ("x-forwarded-for", "::1"),
        ("cookie", "a=b"),
        ("via", "2 x"),
    ]
    assert peer.call(LIVE, b"", *more).messages() == [IS_LIVE]


def test_bytes_beyond_ascii_in_a_value_break_nothing(peer: Peer, transport: str) -> None:
    own(transport, "takes them, and its Python layer logs a traceback")
    stream = peer.start([*head(LIVE), (b"x-raw", b"\xff\xfe\x80")])
    peer.send_data(stream, message(b""), end=True)
    assert peer.fate(stream) in ("status 0", "reset PROTOCOL_ERROR", "status 13")
    lives(peer)


# Sizes


def test_a_head_over_the_announced_limit_is_refused_alone(peer: Peer, transport: str) -> None:
    limit = peer.settings[Setting.MAX_HEADER_LIST_SIZE]
    stream = peer.take_stream()
    block = literals(head(LIVE, *[(f"x-{n}", "v" * 1_000) for n in range(2 * limit // 1_000)]))
    parts = [block[at : at + 16_384] for at in range(0, len(block), 16_384)]
    for at, part in enumerate(parts):
        last = END_HEADERS if at == len(parts) - 1 else 0
        peer.send(frame(Kind.CONTINUATION if at else Kind.HEADERS, last, stream, part))
    peer.send(frame(Kind.DATA, END_STREAM, stream, message(b"")))
    fate = peer.fate(stream)
    assert fate in ("status 8", "http 431", "reset ENHANCE_YOUR_CALM", "goaway ENHANCE_YOUR_CALM") or (
        transport == "grpcio" and fate in ("reset INTERNAL_ERROR", "closed")
    )
    if not fate.startswith(("goaway", "closed")):
        lives(peer)


def test_a_table_bomb_is_no_larger_than_its_limit(peer: Peer, transport: str) -> None:
    """One entry of 4,000 bytes, then 12,000 indices to it: 48 MB of fields out of 16 KB."""
    sent = indexed_literals([("x-b", "v" * 3_900)])
    peer.send(frame(Kind.HEADERS, END_HEADERS, 1, HEAD + sent + b"\xbe" * 12_000))
    peer.send(BODY)
    fate = peer.fate(1)
    assert fate in ("status 8", "http 431", "reset ENHANCE_YOUR_CALM", "goaway ENHANCE_YOUR_CALM",
                    "goaway COMPRESSION_ERROR") or (transport == "grpcio" and fate != "status 0")  # fmt: skip


@pytest.mark.parametrize("empty", [True, False])
def test_a_header_block_without_end_is_bounded(peer: Peer, transport: str, empty: bool) -> None:
    """CONTINUATION after CONTINUATION: ended long before a megabyte, or a thousand frames of nothing."""
    own(transport, "reads on for ever, keeping nothing")
    peer.send(frame(Kind.HEADERS, 0, 1, HEAD))
    part = frame(Kind.CONTINUATION, 0, 1, b"" if empty else literals([("x-y", "v" * 1_000)]) * 16)
    for _ in range(40):
        peer.send(part * (2_500 if empty else 3))
    ends(peer, transport, Code.ENHANCE_YOUR_CALM, Code.PROTOCOL_ERROR)


# Parts


def test_a_block_may_be_parted_at_every_byte(running: Served) -> None:
    with Peer(running.address) as peer:
        peer.settled()
        for cut in range(len(HEAD) + 1):
            stream = peer.take_stream()
            peer.send(
                frame(Kind.HEADERS, 0, stream, HEAD[:cut])
                + frame(Kind.CONTINUATION, END_HEADERS, stream, HEAD[cut:])
                + frame(Kind.DATA, END_STREAM, stream, message(b""))
            )
            assert peer.answer(stream).messages() == [IS_LIVE], cut


def test_a_block_may_come_in_frames_of_one_byte(peer: Peer, transport: str) -> None:
    block = literals([*head(LIVE, without=["user-agent"])])
    parts = [frame(Kind.CONTINUATION, 0, 1, block[at : at + 1]) for at in range(1, len(block))]
    peer.send(
        frame(Kind.HEADERS, 0, 1, block[:1])
        + b"".join(parts)
        + frame(Kind.CONTINUATION, END_HEADERS, 1)
        + BODY
    )
    fate = peer.fate(1)
    assert fate == "status 0" or (transport == "naiad" and fate == "goaway ENHANCE_YOUR_CALM")


def test_huffman_and_indexed_fields_may_be_parted_too(peer: Peer) -> None:
    encoder = Encoder()
    for cut in range(1, 12):
        stream = peer.take_stream()
        block = encoder.encode(head(LIVE, ("x-cut", str(cut))), huffman=True)
        at = min(cut * 5, len(block))
        peer.send(
            frame(Kind.HEADERS, 0, stream, block[:at])
            + frame(Kind.CONTINUATION, END_HEADERS, stream, block[at:])
        )
        peer.send_data(stream, message(b""), end=True)
        assert peer.answer(stream).messages() == [IS_LIVE]


# Trailers of the client


@pytest.mark.parametrize("at_once", [True, False])
def test_trailers_end_a_call_and_keep_the_tables_right(peer: Peer, at_once: bool) -> None:
    encoder = Encoder()
    for n in range(6):
        stream = peer.take_stream()
        sent = [
            frame(Kind.HEADERS, END_HEADERS, stream, encoder.encode(head(LIVE))),
            frame(Kind.DATA, 0, stream, message(b"")),
            frame(Kind.HEADERS, END_HEADERS | END_STREAM, stream, encoder.encode([("x-trailer", str(n))])),
        ]
        for part in [b"".join(sent)] if at_once else sent:
            peer.send(part)
        assert peer.answer(stream).messages() == [IS_LIVE]


def test_trailers_with_a_pseudo_header_are_refused(peer: Peer, transport: str) -> None:
    own(transport, "takes them")
    late = literals([(":path", LIVE)])
    peer.take_stream()
    peer.send(
        frame(Kind.HEADERS, END_HEADERS, 1, HEAD)
        + frame(Kind.DATA, 0, 1, message(b""))
        + frame(Kind.HEADERS, END_HEADERS | END_STREAM, 1, late)
    )
    assert peer.fate(1) == "reset PROTOCOL_ERROR"
    lives(peer)
