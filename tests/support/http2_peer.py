"""A raw HTTP/2 client on a plain socket: sends any frame, valid or not, and holds the server's frames to the protocol."""

from __future__ import annotations

import base64
import contextlib
import socket
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import unquote

from hpack import Decoder
from hpack.hpack import encode_integer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Fields = Sequence[tuple[str, str]]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FIRST_WINDOW = 65_535
MAX_WINDOW = 2**31 - 1
MAX_FRAME = 16_384
LIMIT_S = 10.0
UNAVAILABLE = 14


class Kind(IntEnum):
    """Frame types."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


END_STREAM = ACK = 1
END_HEADERS = 4
PADDED = 8
PRIORITISED = 32


class Code(IntEnum):
    """Error codes."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class Setting(IntEnum):
    """Settings."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Frame(NamedTuple):
    """A frame as it came or will go."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(
    kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"", *, length: int | None = None
) -> bytes:
    """A frame's bytes; `length` may tell another length than the payload's, `stream` may have the reserved bit."""
    told = len(payload) if length is None else length
    return told.to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + payload


def settings(values: Mapping[int, int] | None = None) -> bytes:
    """A SETTINGS frame."""
    return setting_pairs((values or {}).items())


def setting_pairs(pairs: Iterable[tuple[int, int]]) -> bytes:
    """A SETTINGS frame that may name a setting twice."""
    return frame(Kind.SETTINGS, payload=b"".join(struct.pack(">HI", *pair) for pair in pairs))


def ping(payload: bytes = bytes(8)) -> bytes:
    """A PING frame."""
    return frame(Kind.PING, payload=payload)


def window(stream: int, more: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(Kind.WINDOW_UPDATE, 0, stream, struct.pack(">I", more))


def reset(stream: int, code: int = Code.CANCEL) -> bytes:
    """A RST_STREAM frame."""
    return frame(Kind.RST_STREAM, 0, stream, struct.pack(">I", code))


def literals(fields: Iterable[tuple[str | bytes, str | bytes]]) -> bytes:
    """A header block of literals that no table remembers, whatever is in them."""
    return b"".join(b"\x00" + _string(name) + _string(value) for name, value in fields)


def indexed_literals(fields: Iterable[tuple[str | bytes, str | bytes]]) -> bytes:
    """A header block of literals that the dynamic table remembers."""
    return b"".join(b"\x40" + _string(name) + _string(value) for name, value in fields)


def _string(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return bytes(encode_integer(len(raw), 7)) + raw


def message(data: bytes, flag: int = 0) -> bytes:
    """A message as gRPC prefixes it."""
    return struct.pack(">BI", flag, len(data)) + data


def head(
    path: str, *more: tuple[str, str], without: Iterable[str] = (), **changed: str
) -> list[tuple[str, str]]:
    """The fields that open a call, as grpcio sends them.

    Args:
        path: `/service/method`.
        more: further fields, at the end.
        without: names that are left out.
        changed: other values; `_` in a name stands for `-`, and `method`, `scheme` and `authority` are pseudo headers.
    """
    fields = {
        ":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost", "te": "trailers",
        "content-type": "application/grpc", "user-agent": "peer/1",
    }  # fmt: skip
    for name, value in changed.items():
        pseudo = ":" + name
        fields[pseudo if pseudo in fields else name.replace("_", "-")] = value
    left_out = set(without)
    return [(name, value) for name, value in fields.items() if name not in left_out] + list(more)


@dataclass
class Answer:
    """What came on one stream."""

    stream: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    trailers: list[tuple[str, str]] | None = None
    data: bytearray = field(default_factory=bytearray)
    reset: int | None = None
    ended: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing more comes."""
        return self.ended or self.reset is not None

    def field(self, name: str) -> str | None:
        """A field of the head or the trailers."""
        return dict([*self.headers, *(self.trailers or ())]).get(name)

    @property
    def http_status(self) -> int:
        """HTTP's status."""
        return int(dict(self.headers).get(":status", "0"))

    @property
    def status(self) -> int | None:
        """The status code of gRPC, None if there is none."""
        found = self.field("grpc-status")
        return None if found is None else int(found)

    @property
    def text(self) -> str:
        """The text of gRPC's status, decoded."""
        return unquote(self.field("grpc-message") or "")

    @property
    def is_trailers_only(self) -> bool:
        """Whether status and head came in one."""
        return self.trailers is None and self.status is not None and not self.data

    def messages(self) -> list[bytes]:
        """The messages, still compressed if they are."""
        found, at = [], 0
        while at < len(self.data):
            (length,) = struct.unpack_from(">I", self.data, at + 1)
            assert at + 5 + length <= len(self.data), "a message that is not whole"
            found.append(bytes(self.data[at + 5 : at + 5 + length]))
            at += 5 + length
        return found


def binary(value: str) -> bytes:
    """The bytes of a `-bin` value."""
    return base64.b64decode(value + "=" * (-len(value) % 4))


class Peer:
    """A client's connection. Reading asserts what every server owes; `auto` answers what every client owes.

    Every read waits at most `limit_s` seconds and raises TimeoutError after it.
    """

    def __init__(
        self,
        address: tuple[str, int] | str,
        values: Mapping[int, int] | None = None,
        *,
        greet: bool = True,
        auto: bool = True,
        grants: bool = True,
        limit_s: float = LIMIT_S,
        receive_buffer: int | None = None,
    ) -> None:
        """Connect.

        Args:
            address: host and port, or the path of a unix socket.
            values: the settings to send.
            greet: send preface and settings at once.
            auto: acknowledge settings and pings.
            grants: give back what DATA takes of the windows.
            limit_s: seconds of each read and write.
            receive_buffer: bytes that the kernel keeps for us; its own choice if None.
        """
        self.auto = auto
        self.grants = grants
        self.closed = False
        self.frame_bytes = MAX_FRAME
        self.goaways: list[tuple[int, int, bytes]] = []
        self.pongs: list[bytes] = []
        self.pings = 0
        self.settings: dict[int, int] = {}
        self.settings_acks = 0
        self.answers: dict[int, Answer] = {}
        self.next_stream = 1
        # What we may send, and what they may.
        self.send_window = FIRST_WINDOW
        self.send_windows: dict[int, int] = {}
        self.receive_window = FIRST_WINDOW
        self.receive_windows: dict[int, int] = {}
        self.our_window = (values or {}).get(Setting.INITIAL_WINDOW_SIZE, FIRST_WINDOW)
        self.our_max_frame = (values or {}).get(Setting.MAX_FRAME_SIZE, MAX_FRAME)
        self._decoder = Decoder()
        self._greeted = False
        self._buffer = bytearray()
        self._block: tuple[Frame, bytearray] | None = None
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(limit_s)
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise
        if family != socket.AF_UNIX:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if greet:
            self.send(PREFACE + settings(values or {}))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    # Writing

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; a server that has gone is noticed when reading."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def set(self, values: Mapping[int, int]) -> None:
        """Change our settings."""
        if (initial := values.get(Setting.INITIAL_WINDOW_SIZE)) is not None:
            for stream in self.receive_windows:
                self.receive_windows[stream] += initial - self.our_window
            self.our_window = initial
        self.send(settings(values))

    def grant(self, stream: int, more: int) -> None:
        """Raise a window of ours."""
        if stream:
            self.receive_windows[stream] = self.receive_windows.get(stream, self.our_window) + more
        else:
            self.receive_window += more
        self.send(window(stream, more))

    def start(self, fields: Iterable[tuple[str | bytes, str | bytes]], *, end: bool = False) -> int:
        """Open a stream with these fields; returns its id."""
        stream = self.take_stream()
        self.send(frame(Kind.HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, literals(fields)))
        return stream

    def take_stream(self) -> int:
        """The next id."""
        stream = self.next_stream
        self.next_stream += 2
        return stream

    def send_data(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send DATA within the server's windows, reading where they are used up."""
        rest = memoryview(data)
        while True:
            room = min(self._room(stream), self.frame_bytes, len(rest))
            if rest and room <= 0:
                answer = self.answers.get(stream)
                if not self.read() or (answer is not None and answer.over):
                    return
                continue
            part, rest = rest[:room], rest[room:]
            self.send_window -= len(part)
            self.send_windows[stream] = self._stream_window(stream) - len(part)
            self.send(frame(Kind.DATA, END_STREAM if end and not rest else 0, stream, bytes(part)))
            if not rest:
                return

    def _stream_window(self, stream: int) -> int:
        return self.send_windows.setdefault(
            stream, self.settings.get(Setting.INITIAL_WINDOW_SIZE, FIRST_WINDOW)
        )

    def _room(self, stream: int) -> int:
        return min(self.send_window, self._stream_window(stream))

    def request(self, path: str, data: bytes, *more: tuple[str, str], **changed: str) -> int:
        """Send a whole unary call of one message; returns its stream."""
        stream = self.start(head(path, *more, **changed))
        self.send_data(stream, message(data), end=True)
        return stream

    def call(self, path: str, data: bytes, *more: tuple[str, str], **changed: str) -> Answer:
        """A whole unary call and its answer."""
        return self.answer(self.request(path, data, *more, **changed))

    # Reading

    def read(self) -> Frame | None:
        """The next frame, checked and accounted for; None when the connection has ended."""
        found = self._next_frame()
        if found is None:
            self.closed = True
        else:
            self._check(found)
            self._take(found)
        return found

    def _next_frame(self) -> Frame | None:
        while True:
            if len(self._buffer) >= 9:
                length = int.from_bytes(self._buffer[:3], "big")
                assert length <= self.our_max_frame, f"a frame of {length} bytes"
                if len(self._buffer) >= 9 + length:
                    kind, flags, stream = struct.unpack_from(">BBI", self._buffer, 3)
                    payload = bytes(self._buffer[9 : 9 + length])
                    del self._buffer[: 9 + length]
                    return Frame(kind, flags, stream, payload)
            try:
                more = self.socket.recv(262_144)
            except ConnectionResetError:
                return None
            if not more:
                return None
            self._buffer += more

    def _check(self, got: Frame) -> None:
        """What every frame of a server must be."""
        if not self._greeted:
            assert got.kind == Kind.SETTINGS, f"first came {got}"
            assert not got.flags & ACK
            self._greeted = True
        assert got.kind <= Kind.CONTINUATION, got
        assert got.kind != Kind.PUSH_PROMISE, got
        if got.kind in (Kind.SETTINGS, Kind.PING, Kind.GOAWAY):
            assert got.stream == 0, got
        elif got.kind != Kind.WINDOW_UPDATE:
            assert got.stream % 2 == 1, got
        assert (self._block is not None) == (got.kind == Kind.CONTINUATION), (
            f"a header block is interrupted: {got}"
        )
        if got.kind in (Kind.DATA, Kind.HEADERS):
            answer = self.answers.get(got.stream)
            assert answer is None or not answer.over, f"after the stream's end: {got}"
        sizes = {Kind.RST_STREAM: 4, Kind.PING: 8, Kind.WINDOW_UPDATE: 4, Kind.PRIORITY: 5}
        assert len(got.payload) == sizes.get(Kind(got.kind), len(got.payload)), got

    def _take(self, got: Frame) -> None:
        kind, flags, stream, payload = got
        if kind == Kind.SETTINGS:
            self._take_settings(flags, payload)
        elif kind == Kind.PING:
            self._take_ping(flags, payload)
        elif kind == Kind.GOAWAY:
            last, code = struct.unpack(">II", payload[:8])
            self.goaways.append((last, code, payload[8:]))
        elif kind == Kind.WINDOW_UPDATE:
            self._take_window(stream, struct.unpack(">I", payload)[0])
        elif kind == Kind.RST_STREAM:
            self._answer(stream).reset = struct.unpack(">I", payload)[0]
        elif kind == Kind.DATA:
            self._take_data(flags, stream, payload)
        elif kind in (Kind.HEADERS, Kind.CONTINUATION):
            self._take_headers(got)

    def _answer(self, stream: int) -> Answer:
        return self.answers.setdefault(stream, Answer(stream))

    def _take_settings(self, flags: int, payload: bytes) -> None:
        if flags & ACK:
            assert not payload
            self.settings_acks += 1
            return
        assert len(payload) % 6 == 0
        before = self.settings.get(Setting.INITIAL_WINDOW_SIZE, FIRST_WINDOW)
        self.settings |= dict(struct.unpack_from(">HI", payload, at) for at in range(0, len(payload), 6))
        after = self.settings.get(Setting.INITIAL_WINDOW_SIZE, FIRST_WINDOW)
        assert after <= MAX_WINDOW
        for stream in self.send_windows:
            self.send_windows[stream] += after - before
        if self.auto:
            self.send(frame(Kind.SETTINGS, ACK))

    def _take_ping(self, flags: int, payload: bytes) -> None:
        if flags & ACK:
            self.pongs.append(payload)
            return
        self.pings += 1
        if self.auto:
            self.send(frame(Kind.PING, ACK, 0, payload))

    def _take_window(self, stream: int, more: int) -> None:
        assert more, "a WINDOW_UPDATE of nothing"
        if stream:
            self.send_windows[stream] = self._stream_window(stream) + more
            assert self.send_windows[stream] <= MAX_WINDOW
        else:
            self.send_window += more
            assert self.send_window <= MAX_WINDOW

    def _take_data(self, flags: int, stream: int, payload: bytes) -> None:
        self.receive_window -= len(payload)
        left = self.receive_windows.get(stream, self.our_window) - len(payload)
        self.receive_windows[stream] = left
        assert self.receive_window >= 0, "more than the connection's window"
        assert left >= 0 or not payload, f"more than the window of stream {stream}"
        answer = self._answer(stream)
        assert answer.headers, "DATA before HEADERS"
        if flags & PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        answer.data += payload
        answer.ended = bool(flags & END_STREAM)
        if self.grants and payload:
            self.grant(0, len(payload))
            if not answer.ended:
                self.grant(stream, len(payload))

    def _take_headers(self, got: Frame) -> None:
        first, block = self._block or (got, bytearray())
        block += got.payload
        if not got.flags & END_HEADERS:
            self._block = first, block
            return
        self._block = None
        assert not first.flags & PADDED
        assert not first.flags & PRIORITISED
        fields = [(str(name), str(value)) for name, value in self._decoder.decode(bytes(block))]
        assert all(name == name.lower() for name, _ in fields)
        answer = self._answer(first.stream)
        if answer.headers:
            assert first.flags & END_STREAM, "trailers that do not end the stream"
            assert not any(name.startswith(":") for name, _ in fields)
            answer.trailers = fields
        else:
            assert fields[0][0] == ":status", fields
            answer.headers = fields
        answer.ended = bool(first.flags & END_STREAM)

    def until(self, *kinds: int, stream: int | None = None) -> Frame:
        """Read until a frame of one of these kinds comes, on that stream if one is given."""
        while (got := self.read()) is not None:
            if got.kind in kinds and stream in (None, got.stream):
                return got
        raise AssertionError(f"the connection ended ({self.goaways}) before any of {kinds}")

    def answer(self, stream: int) -> Answer:
        """Read until the stream is over; asserts that the connection lives as long."""
        answer = self._answer(stream)
        while not answer.over:
            assert self.read() is not None, f"the connection ended ({self.goaways}) before stream {stream}"
        return answer

    def pinged(self, payload: bytes = b"barrier.") -> None:
        """Send a PING and read up to its answer: the server has read everything before."""
        seen = len(self.pongs)
        self.send(ping(payload))
        while payload not in self.pongs[seen:]:
            assert self.read() is not None, f"the connection ended: {self.goaways}"

    def settled(self) -> Self:
        """Read up to the server's answer to our SETTINGS."""
        self.acknowledged(1)
        return self

    def acknowledged(self, count: int) -> None:
        """Read until so many of our SETTINGS in all are acknowledged."""
        while self.settings_acks < count:
            assert self.read() is not None, f"the connection ended: {self.goaways}"

    def end(self) -> int | None:
        """Read until the connection has ended; the last GOAWAY's code, None if there was none."""
        while self.read() is not None:
            pass
        return self.goaways[-1][1] if self.goaways else None

    def fate(self, stream: int) -> str:
        """What became of a stream, or of the whole connection if that came first: a word for tables of tests.

        `status N`, `http N`, `reset CODE`, `goaway CODE` or `closed`.
        """
        answer = self._answer(stream)
        while not answer.over and self.read() is not None:
            pass
        if answer.status == UNAVAILABLE or not answer.over:
            # The connection's end may have been told to its calls first.
            self.end()
        if self.goaways and self.goaways[-1][1]:
            return f"goaway {Code(self.goaways[-1][1]).name}"
        if answer.ended:
            return f"status {answer.status}" if answer.http_status == 200 else f"http {answer.http_status}"
        if answer.reset is not None:
            return f"reset {Code(answer.reset).name}"
        return "goaway NO_ERROR" if self.goaways else "closed"
