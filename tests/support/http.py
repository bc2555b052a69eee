"""An HTTP front end on a free port of loopback, and raw sockets to say things that no client would."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from naiad.services.http import HttpServer, HttpSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from naiad.services.http import Triton


class Front(NamedTuple):
    """A front end that listens."""

    server: HttpServer
    port: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def stop(self, grace_s: float) -> bool:
        """Drain for so long, then close; whether all was answered."""
        self.server.begin_drain()
        answered = await self.server.answered(grace_s)
        await self.server.close()
        return answered


@contextlib.asynccontextmanager
async def front(triton: Triton, **settings: Any) -> AsyncIterator[Front]:
    """A front end over a protocol; stopped without patience."""
    server = HttpServer(HttpSettings(**_on_loopback(settings)), triton)
    port = await server.start()
    try:
        yield Front(server, port)
    finally:
        await server.close()


def _on_loopback(settings: dict[str, Any]) -> dict[str, Any]:
    return {"address": "127.0.0.1", "port": 0} | settings


class Answer(NamedTuple):
    """An answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        text: str = self.json["error"]
        return text


class Peer:
    """One end of a raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, is_head: bool = False) -> Answer:
        """Read one answer.

        Raises:
            EOFError: the connection closed before it was whole.
        """
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = 0 if is_head else int(headers.get("content-length", 0))
        return Answer(int(first.split()[1]), headers, await self.reader.readexactly(length))

    async def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        """One request with a Content-Length, and its answer."""
        lines = {"Host": "test", "Content-Length": str(len(body))} | (headers or {})
        head = f"{method} {path} HTTP/1.1\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in lines.items()
        )
        await self.send(head.encode("latin-1") + b"\r\n" + body)
        return await self.answer(is_head=method == "HEAD")

    async def is_closed(self) -> bool:
        """Whether the other end closes; waits for it."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionResetError:
            return True


@contextlib.asynccontextmanager
async def peer(port: int) -> AsyncIterator[Peer]:
    """A raw connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def ask(
    port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> Answer:
    """One request on a connection of its own."""
    async with peer(port) as other:
        return await other.ask(method, path, body, headers)
