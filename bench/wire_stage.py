"""A unary call's frames through the server's HTTP/2, the socket apart: what the transport itself takes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
from hpack import Encoder

from naiad.services.grpc_settings import GrpcSettings
from naiad.services.http2 import frames
from naiad.services.http2.connection import Connection
from naiad.services.http2.messages import prefixed
from naiad.services.http2.methods import starts_with
from naiad.services.http2.server import Http2Server

if TYPE_CHECKING:
    from naiad.services.http2.call import Call

_PATH = "/bench.Empty/Call"
_HEAD = (
    (":method", "POST"),
    (":scheme", "http"),
    (":path", _PATH),
    (":authority", "localhost"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
    ("user-agent", "bench"),
)


class _Empty:
    """A service that answers each call with the same bytes, without a task, as inference does at its best."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    @starts_with("begin")
    async def call(self, _request: bytes, _context: Any) -> bytes:
        return self._answer

    def begin(self, _request: bytes, call: Call) -> bool:
        call.answer(self._answer)
        return True


class _Nowhere(asyncio.Transport):
    """Takes what is written and forgets it."""

    def write(self, data: object) -> None:
        """Forget it."""

    def is_closing(self) -> bool:
        """It never is."""
        return False

    def pause_reading(self) -> None:
        """Nothing is read from it."""

    def resume_reading(self) -> None:
        """Nothing is read from it."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The peer alone."""
        return ("127.0.0.1", 1) if name == "peername" else default


class WireCalls:
    """Calls of an empty service, one after the other on one connection, as a steady client sends them."""

    def __init__(self, request: bytes, answer: bytes) -> None:
        server = Http2Server(GrpcSettings())
        server.loop = asyncio.get_running_loop()
        handlers = {"Call": grpc.unary_unary_rpc_method_handler(_Empty(answer).call)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Empty", handlers),))
        self._connection = Connection(server)
        self._connection.connection_made(_Nowhere())
        self._message = prefixed(request)
        self._feed(
            frames.PREFACE
            + frames.settings_frame({frames.INITIAL_WINDOW_SIZE: 2**30})
            + frames.window_update(0, frames.MAX_WINDOW - frames.DEFAULT_WINDOW)
        )
        encoder = Encoder()
        self._next_id = 1
        encoder.encode(_HEAD)
        self._feed(self._frames(Encoder().encode(_HEAD)))
        self._block = encoder.encode(_HEAD)

    def __call__(self) -> None:
        """One call: the frames come, and the answer's are written."""
        self._feed(self._frames(self._block))
        self._connection.outbox.window = frames.MAX_WINDOW

    def close(self) -> None:
        """End the connection's timers."""
        self._connection.connection_lost(None)

    def _frames(self, block: bytes) -> bytes:
        stream_id, self._next_id = self._next_id, self._next_id + 2
        return frames.headers_frames(stream_id, block) + frames.frame(
            frames.DATA, frames.END_STREAM, stream_id, self._message
        )

    def _feed(self, data: bytes) -> None:
        room = self._connection.get_buffer(-1)
        room[: len(data)] = data
        self._connection.buffer_updated(len(data))
