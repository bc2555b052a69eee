"""Messages to the process aside and back."""

from __future__ import annotations

import json
import math
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from naiad.core.errors import InternalError, ResourceExhaustedError
from naiad.core.tensors import ModelKey
from naiad.lifecycle.experiments.aside.jobs import JobFailed, ModelOpened, ShadowResult, SignsResult
from naiad.lifecycle.experiments.aside.wire import (
    MAX_MESSAGE_BYTES,
    Receiver,
    result_from_message,
    result_to_message,
    send,
)
from naiad.vision.agreement import AnswerSigns, DetectionAgreement, EmbeddingAgreement, TensorAgreement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from naiad.lifecycle.experiments.aside.jobs import AsideResult


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


@pytest.mark.parametrize(
    "result",
    [
        ShadowResult(DetectionAgreement(3, 2, 2, 0.9, None, -0.01, 0.4), 12.5, Path("/kept/1.npz")),
        ShadowResult(EmbeddingAgreement(2, 0.99, 0.98, 1.1, 0.7, 0.01), 1.0, not_kept="no room"),
        ShadowResult(TensorAgreement(10, 1, math.inf, 0.1), 0.0),
        SignsResult(AnswerSigns("detect", 2, 3, 0.8, None, is_finite=True)),
        ModelOpened(ModelKey("m", 2**62), ("a note",)),
        JobFailed("größer\n", is_candidates_fault=True, gave_up=True),
    ],
    ids=lambda result: type(result).__name__,
)
def test_every_result_arrives_as_it_was(
    pair: tuple[socket.socket, socket.socket], result: AsideResult
) -> None:
    send(pair[0], result_to_message(result))
    message = Receiver(pair[1]).receive()
    assert message is not None
    assert result_from_message(message) == result


def test_a_message_in_pieces_is_one_message(pair: tuple[socket.socket, socket.socket]) -> None:
    data = json.dumps({"some": "text"}).encode()
    receiver = Receiver(pair[1])
    got = []
    for part in (b"\x10", b"\x00\x00\x00", data[:3], data[3:]):
        pair[0].sendall(part)
        got.append(receiver.receive())
    assert got == [None, None, None, {"some": "text"}]


def test_a_message_that_could_fill_the_socket_is_refused(pair: tuple[socket.socket, socket.socket]) -> None:
    """Sending must never wait for a process that is held still."""
    with pytest.raises(ResourceExhaustedError, match=str(MAX_MESSAGE_BYTES)):
        send(pair[0], {"x": "y" * MAX_MESSAGE_BYTES})
    send(pair[0], {"x": "y" * (MAX_MESSAGE_BYTES - 8)})


def test_the_longest_message_is_sent_without_a_reader(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].setblocking(False)
    send(pair[0], {"x": "y" * (MAX_MESSAGE_BYTES - 8)})


def test_a_length_beyond_the_limit_and_a_stranger_to_json_are_told(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    pair[0].sendall(struct.pack("<I", MAX_MESSAGE_BYTES + 1))
    with pytest.raises(InternalError, match="over the limit"):
        Receiver(pair[1]).receive()
    pair[0].sendall(struct.pack("<I", 3) + b"\xff{}")
    with pytest.raises(InternalError, match="no message"):
        Receiver(pair[1]).receive()


def test_the_other_sides_end_is_an_end(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].close()
    with pytest.raises(EOFError):
        Receiver(pair[1]).receive()


def test_an_answer_that_is_none_is_told() -> None:
    with pytest.raises(InternalError, match="strange"):
        result_from_message({"strange": 1})
