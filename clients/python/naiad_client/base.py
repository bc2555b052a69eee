"""What the two clients share: settings, channel options, readiness, and the order of a stream's frames."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TypeAlias

import grpc

from naiad_client.errors import DeadlineExceededError, InternalError, from_rpc
from naiad_client.messages import Messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from naiad_client.images import Color

Metadata: TypeAlias = "Sequence[tuple[str, str | bytes]]"
ChannelOptions: TypeAlias = "Sequence[tuple[str, int | str]]"

DEFAULT_TIMEOUT_S = 30.0
DEFAULT_MAX_IN_FLIGHT = 8

HEALTH_WATCH = "/grpc.health.v1.Health/Watch"
# The health protocol's messages are so small that a dependency for them would cost more than it saves:
# an empty request asks for the server as a whole, and field 1 of the reply is the status.
HEALTH_REQUEST = b""
HEALTH_PAUSE_S = 0.05
"""Between two watches: one that ends at once must not become a busy loop."""
_HEALTH_SERVING = b"\x08\x01"

_CHANNEL_OPTIONS: dict[str, int | str] = {
    # The server has its own limits and names them; a limit here would only hide them.
    "grpc.max_send_message_length": -1,
    "grpc.max_receive_message_length": -1,
    # A gRPC server, unless told otherwise, drops clients that ping more often than every 5 minutes.
    "grpc.keepalive_time_ms": 330_000,
    "grpc.keepalive_timeout_ms": 20_000,
    # Whoever waits for a server that is starting should not sleep through its first second.
    "grpc.initial_reconnect_backoff_ms": 250,
    "grpc.max_reconnect_backoff_ms": 5_000,
}


class BaseClient(ABC):
    """Settings of a client; a subclass opens the channel and makes the calls.

    Args:
        address: where the server listens: "host:port", or any gRPC target ("unix:/path", "dns:///…").
        detector: the detector's name in the model repository; "" lets the server use its only one.
        embedder: the embedder's name; "" lets the server use its only one.
        color: the channel order of colour arrays, "bgr" for OpenCV's, "rgb" for Pillow's. There is no
            default: a mistaken order costs accuracy and raises nothing.
        timeout: seconds that a call may take, None for no limit. Streams have none unless given one.
        credentials: TLS, as `grpc.ssl_channel_credentials(...)` makes it; None connects in the clear.
        options: gRPC channel options, in place of the defaults or beside them.
        metadata: sent with every call.
    """

    def __init__(
        self,
        address: str,
        *,
        detector: str = "",
        embedder: str = "",
        color: Color | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        credentials: grpc.ChannelCredentials | None = None,
        options: ChannelOptions = (),
        metadata: Metadata = (),
    ) -> None:
        self.address = address
        self._timeout = timeout
        self._metadata = tuple(metadata)
        self._messages = Messages(detector, embedder, color)
        self._connect(credentials, tuple({**_CHANNEL_OPTIONS, **dict(options)}.items()))

    @abstractmethod
    def _connect(
        self, credentials: grpc.ChannelCredentials | None, options: tuple[tuple[str, int | str], ...]
    ) -> None:
        """Open the channel; nothing is sent before the first call."""

    def _limit(self, timeout: float | None) -> float | None:
        """Seconds a call may take: its own timeout, else the client's."""
        return self._timeout if timeout is None else timeout


class Readiness:
    """Judges what a watch of the server's health says. Pure."""

    def __init__(self, address: str, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._seen = "no connection"

    def is_ready(self, status: bytes) -> bool:
        """Whether the server says that it serves."""
        self._seen = "connected, but not serving"
        return status == _HEALTH_SERVING

    def is_ready_despite(self, error: grpc.RpcError) -> bool:
        """Whether a watch that failed means ready (True) or another try (False).

        Raises:
            NaiadError: neither: time is up, or the call is refused.
        """
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return True  # no health service: to be reachable is all that can be asked
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return False  # the connection broke; the next try waits for a new one
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise DeadlineExceededError(
                error.code(), f"server at {self._address} not ready after {self._timeout:g} s: {self._seen}"
            ) from error
        raise from_rpc(error) from error


class FrameOrder:
    """Checks that a stream answers each frame, in order. Pure.

    The feeding side sets `sent` (frames sent so far) and `all_sent`, each before the server can answer it.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.all_sent = False
        self._answered = 0

    def answered(self, frame_id: int) -> None:
        """Note an answer.

        Raises:
            InternalError: it is not the next frame's.
        """
        if frame_id != self._answered:
            raise InternalError(
                grpc.StatusCode.INTERNAL,
                f"the server answered frame {frame_id} where frame {self._answered} was due",
            )
        self._answered += 1

    def ended(self) -> None:
        """Note the stream's regular end.

        Raises:
            InternalError: the server ended it with frames unanswered, or while more were coming.
        """
        if not self.all_sent or self._answered != self.sent:
            raise InternalError(
                grpc.StatusCode.INTERNAL,
                f"the server ended the stream too early, after {self._answered} frames",
            )


def check_stream(source: object, max_in_flight: int) -> None:
    """Refuse a stream that could never be what was meant.

    Raises:
        ValueError: the look-ahead is below 1.
        TypeError: the source is one picture (a path, or the bytes of a file), whose items are letters.
    """
    if max_in_flight < 1:
        raise ValueError(f"max_in_flight is {max_in_flight}: at least 1 is wanted")
    if isinstance(source, str | bytes | os.PathLike):
        raise TypeError(
            f"a stream wants several pictures, not one {type(source).__name__}: put it into a list"
        )
