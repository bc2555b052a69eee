"""One gRPC call written to the socket by hand: shows what is compressed on the wire, and sends what no client would."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from dataclasses import dataclass, field

DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW = 4
MAX_FRAME = 16_384
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass
class RawAnswer:
    """The reply as it came: HPACK blocks, in which gRPC leaves texts readable, and the framed messages."""

    headers: bytes = b""
    data: bytes = b""

    @property
    def compressed(self) -> bool:
        """The flag of the first message."""
        return self.data[0] == 1

    @property
    def message(self) -> bytes:
        """The first message, still compressed if it is."""
        (length,) = struct.unpack(">I", self.data[1:5])
        return self.data[5 : 5 + length]


@dataclass
class _Windows:
    """How much may still be sent: on the connection, on the stream."""

    connection: int = 65_535
    stream: int = 65_535
    initial: int = 65_535
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def settings(self, payload: bytes) -> None:
        for offset in range(0, len(payload), 6):
            identifier, value = struct.unpack(">HI", payload[offset : offset + 6])
            if identifier == INITIAL_WINDOW:
                self.stream += value - self.initial
                self.initial = value
        self.changed.set()

    def update(self, stream: int, payload: bytes) -> None:
        (more,) = struct.unpack(">I", payload)
        if stream:
            self.stream += more
        else:
            self.connection += more
        self.changed.set()


async def raw_call(
    address: str, path: str, message: bytes, *, encoding: str = "identity", accept: str = "identity"
) -> RawAnswer:
    """Call a method with one message, which is already compressed by `encoding` unless that is identity.

    The answer must fit the window of 64 KiB that a connection begins with.
    """
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    windows = _Windows()
    framed = struct.pack(">BI", encoding != "identity", len(message)) + message
    names = {
        ":method": "POST", ":scheme": "http", ":path": path, ":authority": address, "te": "trailers",
        "content-type": "application/grpc", "grpc-encoding": encoding, "grpc-accept-encoding": accept,
    }  # fmt: skip
    block = b"".join(_literal(name.encode()) + _string(value.encode()) for name, value in names.items())
    writer.write(PREFACE + _frame(SETTINGS) + _frame(HEADERS, END_HEADERS, 1, block))
    sending = asyncio.create_task(_send(writer, windows, framed))
    try:
        return await _receive(reader, writer, windows)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.transport.abort()  # what is still to be sent, nobody reads
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def _string(text: bytes) -> bytes:
    assert len(text) < 127
    return bytes([len(text)]) + text


def _literal(name: bytes) -> bytes:
    return b"\x00" + _string(name)


def _frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


async def _send(writer: asyncio.StreamWriter, windows: _Windows, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        while (room := min(windows.connection, windows.stream, MAX_FRAME, len(rest))) <= 0:
            windows.changed.clear()
            await windows.changed.wait()
        windows.connection -= room
        windows.stream -= room
        writer.write(_frame(DATA, END_STREAM if room == len(rest) else 0, 1, bytes(rest[:room])))
        rest = rest[room:]
        await writer.drain()


async def _receive(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, windows: _Windows
) -> RawAnswer:
    answer = RawAnswer()
    while True:
        head = await reader.readexactly(9)
        length = int.from_bytes(head[:3], "big")
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        payload = await reader.readexactly(length)
        if kind == SETTINGS and not flags & ACK:
            windows.settings(payload)
            writer.write(_frame(SETTINGS, ACK))
        elif kind == WINDOW_UPDATE:
            windows.update(stream, payload)
        elif kind == PING and not flags & ACK:
            writer.write(_frame(PING, ACK, 0, payload))
        elif kind == HEADERS:
            answer.headers += payload
        elif kind == DATA:
            answer.data += payload
        assert kind != GOAWAY, payload
        if stream == 1 and kind in (HEADERS, DATA) and flags & END_STREAM:
            return answer
