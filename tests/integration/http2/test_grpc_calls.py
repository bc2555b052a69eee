"""gRPC's protocol over HTTP/2: heads, messages, deadlines, metadata and how calls end."""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING

import pytest
from support.http2_peer import (
    END_HEADERS,
    END_STREAM,
    Code,
    Kind,
    Peer,
    binary,
    frame,
    head,
    literals,
    message,
)
from support.http2_served import (
    INFER,
    IS_LIVE,
    LIVE,
    MAX_MESSAGE,
    SERVICE,
    STREAM,
    WATCH,
    echo_request,
    echoed,
    echoed_on_stream,
    lives,
    own,
    served,
)
from tritonclient.grpc import service_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path

    from support.http2_served import Served

METADATA = SERVICE + "ModelMetadata"


def outcome(
    peer: Peer, path: str, data: bytes, *more: tuple[str, str], end: bool = True, **changed: str
) -> str:
    """What becomes of a call whose framed messages are given."""
    stream = peer.start(head(path, *more, **changed))
    peer.send_data(stream, data, end=end)
    return peer.fate(stream)


# How an answer looks


def test_an_answer_is_a_head_a_message_and_trailers(peer: Peer) -> None:
    answer = peer.call(LIVE, b"")
    assert answer.headers[0] == (":status", "200")
    assert answer.field("content-type") == "application/grpc"
    assert answer.messages() == [IS_LIVE]
    assert answer.trailers is not None
    assert dict(answer.trailers)["grpc-status"] == "0"
    assert {name for name, _ in answer.headers} <= {
        ":status", "content-type", "grpc-accept-encoding", "grpc-encoding"
    }  # fmt: skip
    for gzip in ("gzip", "deflate", "identity"):
        assert gzip in (answer.field("grpc-accept-encoding") or "identity, deflate, gzip")


def test_an_error_before_any_message_is_a_head_alone(peer: Peer) -> None:
    answer = peer.call(INFER, pb.ModelInferRequest(model_name="missing").SerializeToString())
    assert answer.is_trailers_only
    assert answer.field("content-type") == "application/grpc"
    assert answer.status == 5
    assert answer.text.startswith("Request for unknown model: 'missing' is not found")


def test_an_errors_text_is_percent_encoded(peer: Peer) -> None:
    name = "m\u00fc%\n\x7f\U0001f600 ~"
    answer = peer.call(METADATA, pb.ModelMetadataRequest(name=name).SerializeToString())
    raw = answer.field("grpc-message")
    assert raw is not None
    assert raw.isascii()
    assert raw.isprintable()
    assert "m%C3%BC%25%0A%7F%F0%9F%98%80 ~" in raw
    assert name in answer.text


def test_a_long_errors_text_fits_a_clients_limit(peer: Peer) -> None:
    """8 KiB of fields is what clients take unless told otherwise."""
    answer = peer.call(METADATA, pb.ModelMetadataRequest(name="\u00fc" * 50_000).SerializeToString())
    assert answer.status == 5
    assert sum(len(name) + len(value) + 32 for name, value in answer.headers) < 8_192


@pytest.mark.parametrize(
    "path",
    [
        "/no.Such/Method", SERVICE + "No", "/", "x", "*", LIVE + "?a=1", LIVE + "/", "/" + LIVE, LIVE.lower(),
        "/" + "x" * 5_000,
    ],
)  # fmt: skip
def test_an_unknown_method_is_unimplemented(peer: Peer, path: str) -> None:
    answer = peer.call(path, b"")
    assert (answer.status, answer.text) == (12, "Method not found!")
    assert answer.is_trailers_only


# Heads


@pytest.mark.parametrize(
    "kind", ["application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"]
)
def test_grpcs_content_types_are_taken(peer: Peer, kind: str) -> None:
    assert peer.call(LIVE, b"", content_type=kind).messages() == [IS_LIVE]


@pytest.mark.parametrize(
    "kind", ["application/json", "text/html", "application/grpc-web", "application/grpcx", ""]
)
def test_other_content_types_are_415(peer: Peer, transport: str, kind: str) -> None:
    own(transport, "does not look")
    assert outcome(peer, LIVE, message(b""), content_type=kind) == "http 415"
    lives(peer)


def test_no_content_type_is_415(peer: Peer, transport: str) -> None:
    own(transport, "does not look")
    stream = peer.start(head(LIVE, without=["content-type"]))
    peer.send_data(stream, message(b""), end=True)
    assert peer.fate(stream) == "http 415"
    lives(peer)


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "OPTIONS", "post"])
def test_other_methods_than_post_are_405(peer: Peer, transport: str, method: str) -> None:
    fate = outcome(peer, LIVE, message(b""), method=method)
    assert fate == "http 405" or (transport == "grpcio" and fate in ("reset INTERNAL_ERROR", "status 13"))
    lives(peer)


@pytest.mark.parametrize("form", ["1S", "99999999H", "00000005M", "30000m", "9000000u", "01S"])
def test_timeouts_have_up_to_eight_digits_and_a_unit(peer: Peer, form: str) -> None:
    assert outcome(peer, LIVE, message(b""), grpc_timeout=form) == "status 0"


@pytest.mark.parametrize("form", ["", "1", "S", "-1S", "1s", "1.5S", "+1S", "1SS", "0x1S", "\u0661S"])
def test_other_timeouts_are_refused(peer: Peer, transport: str, form: str) -> None:
    if not form.isascii():
        own(transport, "is not asked, as its Python layer logs a traceback for what is not ASCII")
    assert outcome(peer, LIVE, message(b""), grpc_timeout=form) in ("status 13", "reset PROTOCOL_ERROR")
    lives(peer)


@pytest.mark.parametrize("path", [LIVE, INFER, STREAM, WATCH])
def test_a_deadline_that_has_passed_is_told(peer: Peer, path: str) -> None:
    stream = peer.start(head(path, grpc_timeout="0n"))
    assert peer.fate(stream) == "status 4"
    lives(peer)


def test_an_open_stream_is_ended_at_its_deadline(peer: Peer, running: Served) -> None:
    """The client neither sends nor ends; the call is taken away from the server too."""
    tasks = running.tasks()
    began = time.monotonic()
    stream = peer.start(head(STREAM, grpc_timeout="200m"))
    assert peer.fate(stream) == "status 4"
    assert 0.15 < time.monotonic() - began < 2
    assert peer.answers[stream].text == "Deadline Exceeded"
    peer.pinged()
    assert peer.answers[stream].reset == Code.NO_ERROR, "a client that has not ended is told that it need not"
    running.calms_down(tasks)


# Messages


def test_bytes_that_are_no_message_are_refused(peer: Peer) -> None:
    answer = peer.call(LIVE, b"\xff")
    assert (answer.status, answer.text) == (13, "Unable to parse request")


@pytest.mark.parametrize("by", ["headers", "data"])
def test_a_unary_call_without_a_message_is_refused(peer: Peer, transport: str, by: str) -> None:
    own(transport, "never answers it")
    stream = peer.start(head(LIVE), end=by == "headers")
    if by == "data":
        peer.send_data(stream, b"", end=True)
    assert peer.fate(stream) in ("status 12", "status 13")
    lives(peer)


def test_a_unary_call_with_two_messages_is_refused(peer: Peer, transport: str) -> None:
    own(transport, "answers the first")
    assert outcome(peer, LIVE, message(b"") * 2) in ("status 12", "status 13")
    lives(peer)


@pytest.mark.parametrize("path", [LIVE, STREAM])
@pytest.mark.parametrize("left", [1, 4, 5, 8])
def test_a_message_cut_off_by_the_end_is_refused(peer: Peer, transport: str, path: str, left: int) -> None:
    if path == LIVE:
        own(transport, "never answers it")
    else:
        own(transport, "takes the stream for ended in order")
    assert outcome(peer, path, message(b"abcd")[:left]) == "status 13"
    lives(peer)


@pytest.mark.parametrize("length", [MAX_MESSAGE + 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("path", [INFER, STREAM])
def test_a_message_over_the_limit_is_refused_at_its_head(peer: Peer, path: str, length: int) -> None:
    """None of its bytes is waited for."""
    stream = peer.start(head(path))
    peer.send_data(stream, b"\0" + length.to_bytes(4, "big"))
    answer = peer.answer(stream)
    assert answer.status == 8
    assert f"eceived message larger than max ({length} vs. {MAX_MESSAGE})" in answer.text
    lives(peer)


def test_a_message_of_exactly_the_limit_is_taken(peer: Peer) -> None:
    overhead = len(echo_request(bytes(MAX_MESSAGE // 2))) - MAX_MESSAGE // 2
    request = pb.ModelInferRequest(model_name="missing", raw_input_contents=[bytes(MAX_MESSAGE - overhead)])
    request.id = "x" * (MAX_MESSAGE - request.ByteSize() - 2)
    sent = request.SerializeToString()
    assert len(sent) == MAX_MESSAGE
    assert peer.call(INFER, sent).status == 5


@pytest.mark.parametrize("flag", [2, 128, 254, 255])
def test_unknown_flags_of_a_message_are_refused(peer: Peer, transport: str, flag: int) -> None:
    own(transport, "looks at the lowest bit alone, or not even that")
    assert outcome(peer, LIVE, message(b"", flag)) == "status 13"
    lives(peer)


def test_messages_of_a_stream_are_answered_in_order_wherever_frames_part_them(peer: Peer) -> None:
    payloads = [bytes([n]) * (n * 37) for n in range(1, 40)]
    sent = b"".join(message(echo_request(each)) for each in payloads)
    stream = peer.start(head(STREAM))
    for at in range(0, len(sent), 333):
        peer.send_data(stream, sent[at : at + 333])
    peer.send_data(stream, b"", end=True)
    answer = peer.answer(stream)
    assert answer.status == 0
    assert [echoed_on_stream(each) for each in answer.messages()] == payloads


def test_each_message_of_a_stream_is_answered_before_the_next_is_sent(peer: Peer) -> None:
    stream = peer.start(head(STREAM))
    for n in range(20):
        peer.send_data(stream, message(echo_request(bytes([n]))))
        while len(peer._answer(stream).messages()) <= n:
            assert peer.read() is not None
    assert [echoed_on_stream(each) for each in peer.answers[stream].messages()] == [
        bytes([n]) for n in range(20)
    ]
    peer.send_data(stream, b"", end=True)
    assert peer.answer(stream).status == 0


def test_a_stream_that_ends_at_once_is_fine(peer: Peer) -> None:
    assert outcome(peer, STREAM, b"") == "status 0"
    stream = peer.start(head(STREAM), end=True)
    assert peer.fate(stream) == "status 0"


def test_a_bad_message_does_not_take_the_streams_good_ones(peer: Peer) -> None:
    stream = peer.start(head(STREAM))
    missing = pb.ModelInferRequest(model_name="missing", id="bad").SerializeToString()
    peer.send_data(
        stream, message(echo_request(b"a")) + message(missing) + message(echo_request(b"c")), end=True
    )
    first, bad, last = peer.answer(stream).messages()
    assert echoed_on_stream(first) == b"a"
    assert pb.ModelStreamInferResponse.FromString(bad).infer_response.id == "bad"
    assert echoed_on_stream(last) == b"c"


def test_empty_data_frames_between_are_nothing(peer: Peer) -> None:
    stream = peer.start(head(LIVE))
    for part in (b"", b"\0", b"", b"", b"\0\0\0\0", b""):
        peer.send(frame(Kind.DATA, 0, stream, part))
    peer.send(frame(Kind.DATA, END_STREAM, stream))
    assert peer.answer(stream).messages() == [IS_LIVE]


def test_many_calls_at_once_are_each_given_their_own_answer(peer: Peer) -> None:
    """Their frames are interleaved; a hundred are open before the first has its message."""
    streams = [peer.start(head(INFER)) for _ in range(100)]
    requests = {stream: message(echo_request(str(stream).encode() * 50)) for stream in streams}
    for at in (0, 40):
        for stream, sent in requests.items():
            peer.send_data(stream, sent[at : at + 40] if not at else sent[at:], end=bool(at))
    for stream in streams:
        [answer] = peer.answer(stream).messages()
        assert echoed(answer) == str(stream).encode() * 50


# Metadata


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("raw", [b"", b"\0", b"\xff\xfe", bytes(range(256))])
def test_binary_metadata_comes_in_either_form(peer: Peer, padded: bool, raw: bytes) -> None:
    text = base64.b64encode(raw).decode()
    assert peer.call(LIVE, b"", ("x-trace-bin", text if padded else text.rstrip("="))).status == 0


def test_several_binary_values_in_one_field_are_taken(peer: Peer, transport: str) -> None:
    own(transport, "takes them for one value that is no base64")
    assert peer.call(LIVE, b"", ("x-trace-bin", "AAE=,Ag,AwQF")).status == 0


@pytest.mark.parametrize("text", ["!!!", "A", "A A=", "\u00fc"])
def test_binary_metadata_that_is_none_is_refused(peer: Peer, text: str) -> None:
    assert outcome(peer, LIVE, message(b""), ("x-trace-bin", text)) in ("status 13", "reset PROTOCOL_ERROR")
    lives(peer)


def test_metadata_of_the_answer_comes_as_trailers(peer: Peer) -> None:
    answer = peer.call(METADATA, pb.ModelMetadataRequest(name="echo").SerializeToString())
    assert answer.status == 0
    assert answer.trailers is not None
    names = [name for name, _ in answer.trailers]
    assert any("provider" in name for name in names), names


def test_forwarded_metadata_reaches_the_request(folder: Path, transport: str) -> None:
    """The one way from metadata to an answer: headers become parameters, which a response cache would see."""
    with served(folder, transport, grpc_header_forward_pattern="x-.*").running() as running:
        with Peer(running.address) as peer:
            peer.settled()
            answer = peer.call(INFER, echo_request(b"a"), ("x-one", "1"), ("x-one", "2"), ("x-two", "a,b"))
            [got] = answer.messages()
            assert echoed(got) == b"a"
        assert not running.errors()


def test_binary_helper_reads_what_servers_write() -> None:
    assert binary("AAE") == binary("AAE=") == b"\0\1"


# Health


def test_a_watch_is_told_at_once_and_stays_open(peer: Peer) -> None:
    stream = peer.start(head(WATCH))
    peer.send_data(stream, message(b""), end=True)
    while not peer._answer(stream).messages():
        assert peer.read() is not None
    assert not peer.answers[stream].over
    lives(peer)


def test_headers_of_a_stream_come_no_later_than_its_first_message(peer: Peer) -> None:
    stream = peer.start(head(WATCH))
    peer.send(frame(Kind.DATA, END_STREAM, stream, message(b"")))
    assert peer.until(Kind.HEADERS, Kind.DATA, stream=stream).kind == Kind.HEADERS


def test_a_call_may_come_with_everything_in_one_write_after_the_preface(running: Served) -> None:
    with Peer(running.address) as peer:
        peer.send(
            frame(Kind.HEADERS, END_HEADERS, 1, literals(head(LIVE)))
            + frame(Kind.DATA, END_STREAM, 1, message(b""))
        )
        assert peer.answer(1).messages() == [IS_LIVE]
