"""The library h2 as judge: its state machine reads everything that the server sends, and refuses what is wrong."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.settings import SettingCodes, Settings
from support.http2_peer import head, message
from support.http2_served import INFER, LIVE, STREAM, echo_request, echoed, echoed_on_stream

if TYPE_CHECKING:
    from support.http2_served import Served


class Judge:
    """A client made of h2 and a socket."""

    def __init__(self, address: tuple[str, int], **values: int) -> None:
        self.socket = socket.create_connection(address, timeout=10)
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.h2.local_settings = Settings(
            client=True, initial_values={SettingCodes[name]: value for name, value in values.items()}
        )
        self.h2.initiate_connection()
        self.bodies: dict[int, bytearray] = {}
        self.fields: dict[int, dict[str, str]] = {}
        self.over: set[int] = set()
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def read(self) -> None:
        """Take in what has come; h2 raises for whatever no server may send."""
        data = self.socket.recv(65_536)
        assert data, "the connection ended"
        for event in self.h2.receive_data(data):
            self.take(event)
        self.flush()

    def take(self, event: Any) -> None:
        if isinstance(event, ResponseReceived | TrailersReceived):
            self.fields.setdefault(event.stream_id, {}).update(dict(event.headers))  # type: ignore[arg-type]  # texts, as configured
        elif isinstance(event, DataReceived):
            self.bodies.setdefault(event.stream_id, bytearray()).extend(event.data)
            if event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded | StreamReset):
            self.over.add(event.stream_id)

    def call(self, path: str, body: bytes) -> int:
        """Send a call, waiting for windows; returns its stream."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, head(path))
        while body:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(body))
            if not room:
                self.read()
                continue
            self.h2.send_data(stream, body[:room])
            body = body[room:]
            self.flush()
        self.h2.end_stream(stream)
        self.flush()
        return stream

    def answer(self, stream: int) -> list[bytes]:
        """The messages of a stream that has ended well."""
        while stream not in self.over:
            self.read()
        assert self.fields[stream]["grpc-status"] == "0", self.fields[stream]
        body, found = bytes(self.bodies.get(stream, b"")), []
        while body:
            length = int.from_bytes(body[1:5], "big")
            found.append(body[5 : 5 + length])
            body = body[5 + length :]
        return found


@pytest.mark.parametrize(
    "values",
    [{}, {"INITIAL_WINDOW_SIZE": 100}, {"MAX_FRAME_SIZE": 2**20, "INITIAL_WINDOW_SIZE": 2**24}, {"HEADER_TABLE_SIZE": 0}],
    ids=["default", "small-window", "large", "no-table"],
)  # fmt: skip
def test_everything_the_server_sends_is_legal(running: Served, values: dict[str, int]) -> None:
    judge = Judge(running.address, **values)
    try:
        large = bytes(range(256)) * (40 if "INITIAL_WINDOW_SIZE" in values else 4_000)
        calls = [judge.call(INFER, message(echo_request(large))) for _ in range(3)]
        streams = [
            judge.call(STREAM, message(echo_request(b"a")) + message(echo_request(large))) for _ in range(3)
        ]
        for _ in range(20):
            judge.answer(judge.call(LIVE, message(b"")))
            judge.h2.ping(b"judgement"[:8])
        for stream in calls:
            assert [echoed(each) for each in judge.answer(stream)] == [large]
        for stream in streams:
            assert [echoed_on_stream(each) for each in judge.answer(stream)] == [b"a", large]
        unknown = judge.call("/no.Such/Method", message(b"x"))
        while unknown not in judge.over:
            judge.read()
        assert judge.fields[unknown]["grpc-status"] == "12"
    finally:
        judge.socket.close()


def test_calls_that_the_client_resets_leave_the_rest_legal(running: Served) -> None:
    judge = Judge(running.address)
    try:
        for turn in range(30):
            stream = judge.call(INFER, message(echo_request(bytes(5_000))))
            if turn % 2:
                judge.h2.reset_stream(stream, 8)
                judge.flush()
            else:
                judge.answer(stream)
    finally:
        judge.socket.close()
