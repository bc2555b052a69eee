"""The parts of a message are found where protobuf wrote them, and nothing else is taken for a message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from naiad.services.wire.scan import MAX_FIELDS, MAX_HEAD_BYTES, id_text, scan, varint

texts = st.text(max_size=200)
contents = st.lists(st.binary(max_size=300), max_size=4)


def message(
    name: str = "m", request_id: str = "", raw: tuple[bytes, ...] = (b"data",)
) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name=name, id=request_id, raw_input_contents=raw)
    made.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 1])
    made.outputs.add(name="OUTPUT0")
    return made


@given(texts, texts, contents)
def test_what_is_found_makes_the_message_again(name: str, request_id: str, raw: list[bytes]) -> None:
    data = message(name, request_id, tuple(raw)).SerializeToString()
    found = scan(data)
    assert found is not None
    assert [data[start:stop] for start, stop in found.contents] == raw
    assert (id_text(found.id_field) if found.id_field else "") == request_id
    head = pb.ModelInferRequest.FromString(found.head)
    assert head == message(name, "", ())


@given(texts, texts, contents)
def test_requests_that_differ_in_id_and_data_alone_have_one_head(
    first_id: str, second_id: str, raw: list[bytes]
) -> None:
    found = [scan(message("m", each, tuple(raw)).SerializeToString()) for each in (first_id, second_id)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].head == found[1].head


@given(st.binary(max_size=400))
def test_bytes_that_are_taken_apart_are_what_protobuf_reads_from_them(data: bytes) -> None:
    """Whatever comes: no crash, and a part that is found is the part that a parse finds."""
    found = scan(data)
    if found is None:
        return
    try:
        parsed = pb.ModelInferRequest.FromString(data)
    except Exception:  # noqa: BLE001  # then its head is never learnt
        return
    assert [data[start:stop] for start, stop in found.contents] == list(parsed.raw_input_contents)


@given(st.integers(0, 200), contents)
def test_a_message_that_is_cut_short_is_not_taken_apart(cut: int, raw: list[bytes]) -> None:
    """Unless the cut leaves a whole one: then its last contents are missing, and their number says so."""
    data = message(raw=tuple(raw)).SerializeToString()
    short = data[: max(0, len(data) - 1 - cut)]
    found = scan(short)
    assert found is None or len(found.contents) < len(raw) or not raw


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x3a\x01x" + message().SerializeToString(),  # contents first
        b"\x3a\x01x\x3a\x01y",  # contents alone
        message(request_id="a").SerializeToString()[:-6] + b"\x1a\x01b" + b"\x3a\x04data",  # two ids
        b"\x42\x01x" + message().SerializeToString(),  # a field that no protocol has
        message("n" * MAX_HEAD_BYTES).SerializeToString(),
        message(raw=(b"x",) * MAX_FIELDS).SerializeToString(),
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a length without end
    ],
    ids=["nothing", "order", "no head", "two ids", "unknown", "long head", "many", "length"],
)
def test_what_libraries_do_not_write_goes_the_long_way(data: bytes) -> None:
    assert scan(data) is None


@given(st.integers(0, 2**40))
def test_lengths_are_written_as_protobuf_writes_them(value: int) -> None:
    tag, field = 5 << 3, pb.InferParameter(uint64_param=value).SerializeToString()
    assert field[1:] == varint(value)
    assert field[0] == tag
