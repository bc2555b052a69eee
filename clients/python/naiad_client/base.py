"""What the two clients share: settings, channel options, the stub, readiness, the plans of calls."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import grpc
import grpc.aio

from naiad_client.errors import CancelledError, DeadlineExceededError, from_rpc
from naiad_client.images import DEFAULT_QUALITY, Pictures
from naiad_client.messages import Messages
from naiad_client.modes import make_stub
from naiad_client.retries import DEFAULT_RESUMES, DEFAULT_RETRIES, RetryPlan
from naiad_client.stream_core import StreamCore
from naiad_client.stream_messages import Terms, stream_messages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from naiad_client.images import Color, Encoding
    from naiad_client.messages import Call
    from naiad_client.modes import Mode
    from naiad_client.options import ContractOptions, StreamKind, StreamOptions

Metadata: TypeAlias = "Sequence[tuple[str, str | bytes]]"
ChannelOptions: TypeAlias = "Sequence[tuple[str, int | str]]"

DEFAULT_TIMEOUT_S = 30.0
_MOST_UNTAKEN = 256
"""Results of a session that may lie here: far more than a server has frames in flight."""

KEY_HEADER = "x-naiad-key"
"""Tells the server who asks, so that an experiment gives it the same version each time."""

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
        encode: "jpeg" encodes arrays before they are sent, which needs OpenCV; None sends their pixels.
        quality: of JPEG, 1 to 100.
        timeout: seconds that a call may take, None for no limit. Streams have none unless given one.
        retries: tries more than the first, where the server is not there or says when to come back; 0 for
            none. Between them lie 0.1 s, 0.2 s and so on, or as long as the server says, within the call's
            timeout. A stream that was answered before has at least 12, some 36 s.
        credentials: TLS, as `grpc.ssl_channel_credentials(...)` makes it; None connects in the clear.
        options: gRPC channel options, in place of the defaults or beside them.
        metadata: sent with every call.
        mode: "triton" for a plain Triton server, whose models pictures are prepared for here, which needs the
            extra `triton`; "auto" asks the server at the first call which of the two it is.
    """

    _stub: Any
    _is_closed = False

    def __init__(
        self,
        address: str,
        *,
        detector: str = "",
        embedder: str = "",
        color: Color | None = None,
        encode: Encoding | None = None,
        quality: int = DEFAULT_QUALITY,
        timeout: float | None = DEFAULT_TIMEOUT_S,
        retries: int = DEFAULT_RETRIES,
        credentials: grpc.ChannelCredentials | None = None,
        options: ChannelOptions = (),
        metadata: Metadata = (),
        mode: Mode = "naiad",
    ) -> None:
        self.address = address
        self._mode = mode
        self._timeout = timeout
        self._retries = RetryPlan(retries).retries
        self._metadata = tuple(metadata)
        self._messages = Messages(detector, embedder, Pictures(color, encode, quality))
        self._credentials, self._options = credentials, tuple({**_CHANNEL_OPTIONS, **dict(options)}.items())
        self._connect(credentials, self._options)

    @abstractmethod
    def _connect(
        self, credentials: grpc.ChannelCredentials | None, options: tuple[tuple[str, int | str], ...]
    ) -> None:
        """Open the channel; nothing is sent before the first call."""

    def _check_open(self) -> None:
        """Refuse a call of a client that is closed, with CancelledError."""
        if self._is_closed:
            raise self._closed()

    def _closed(self) -> CancelledError:
        return CancelledError(
            grpc.StatusCode.CANCELLED, f"this client of {self.address} is closed: it makes no more calls"
        )

    @contextmanager
    def _opened(self) -> Iterator[None]:
        """Around whatever uses the channel, which gRPC refuses in ways of its own once it is closed."""
        self._check_open()
        try:
            yield
        except (ValueError, grpc.aio.UsageError) as error:
            if self._is_closed:  # by another thread or task, since it was looked at
                raise self._closed() from error
            raise

    def _make_stub(self, channel: Any) -> Any:
        """What the calls are made on: an object with the methods of `VisionServiceStub`."""
        return make_stub(
            self._mode,
            self.address,
            channel,
            credentials=self._credentials,
            options=self._options,
            metadata=self._metadata,
        )

    def transports(self) -> dict[str, str]:
        """How tensors go to a plain Triton, by address: by shared memory, or by gRPC and why; else empty."""
        found: dict[str, str] = getattr(self._stub, "transports", dict)()
        return found

    def _metadata_for(self, key: str | None) -> Metadata:
        """What is sent beside a call's messages; `key` is who asks."""
        return self._metadata if key is None else (*self._metadata, (KEY_HEADER, key))

    def _plan(self, call: Call[Any], now_s: float) -> RetryPlan:
        """The tries of a single call, its own or the client's."""
        timeout = self._timeout if call.timeout is None else call.timeout
        retries = self._retries if call.retries is None else call.retries
        return RetryPlan(retries, None if timeout is None else now_s + timeout)

    def _session_core(self, kind: StreamKind, options: ContractOptions, now_s: float) -> StreamCore[Any]:
        """The state of a stream with a contract; the server's credit bounds it."""
        in_order = options.get("order", "frames") == "frames"
        terms = Terms(True, options.get("policy") == "latest", in_order, None, _MOST_UNTAKEN)
        messages = stream_messages(self._messages, kind, options, contract=True)
        return StreamCore(messages, terms, self._stream_plan(options, now_s), now_s)

    def _plain_core(
        self, kind: StreamKind, options: StreamOptions, max_in_flight: int, now_s: float
    ) -> StreamCore[Any]:
        """The state of a stream without a contract; `max_in_flight` bounds it, results not taken included."""
        messages = stream_messages(self._messages, kind, cast("ContractOptions", options), contract=False)
        terms = Terms(False, False, True, max_in_flight, max_in_flight)
        return StreamCore(messages, terms, self._stream_plan(options, now_s), now_s)

    def _stream_plan(self, options: StreamOptions, now_s: float) -> RetryPlan:
        timeout, retries = options.get("timeout"), options.get("retries")
        deadline_s = None if timeout is None else now_s + timeout
        if retries is not None:
            return RetryPlan(retries, deadline_s)
        # A call's few tries are over long before a server has started anew; who wants none wants none here.
        resumes = max(self._retries, DEFAULT_RESUMES) if self._retries else 0
        return RetryPlan(self._retries, deadline_s, resumes=resumes)


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
