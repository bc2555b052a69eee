"""The servers of one engine: a channel to each, calls in turn, another one asked where one is not there."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import structlog

from naiad.config.engine_address import is_local
from naiad.core.clock import MonotonicClock
from naiad.core.errors import (
    CancelledError,
    EngineTimeoutError,
    NaiadError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from naiad.runtime.remote.errors import from_rpc
from naiad.runtime.remote.rotation import Rotation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from naiad.core.clock import Clock

    Metadata = Sequence[tuple[str, str | bytes]]

Result = TypeVar("Result")

SERVICE = "/inference.GRPCInferenceService/"
DEFAULT_TIMEOUT_S = 30.0
ENDED = "the run was ended: nobody waited for it"

_OPTIONS: tuple[tuple[str, int | str], ...] = (
    # The server has its own limits and names them; a limit here would only hide them.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Two engines in one process must not share connections: one may be closed while the other is used.
    ("grpc.use_local_subchannel_pool", 1),
)

log = structlog.get_logger(__name__)


class Host:
    """One server. Safe to use from several threads at once.

    `shared_refusal` says why tensors do not go to it by shared memory, empty while nothing speaks against it.
    """

    def __init__(
        self, address: str, channel: grpc.Channel, *, timeout_s: float, metadata: Metadata = ()
    ) -> None:
        self.address = address
        self.shared_refusal = "" if is_local(address) else "it is on another machine"
        self._channel = channel
        self._timeout_s = timeout_s
        self._metadata = tuple(metadata)
        self._infer: Any = channel.unary_unary(f"{SERVICE}ModelInfer", None, None)

    def __repr__(self) -> str:
        return f"<Host {self.address}>"

    def call(self, method: str, request: Any, response_type: Any, *, timeout_s: float | None = None) -> Any:
        """Call a method of the inference service, for at most `timeout_s` seconds; raises NaiadError."""
        limit_s = self._timeout_s if timeout_s is None else min(timeout_s, self._timeout_s)
        call: Any = self._channel.unary_unary(
            SERVICE + method, type(request).SerializeToString, response_type.FromString
        )
        try:
            return call(request, timeout=limit_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc(error, self.address, limit_s) from None

    def infer(self, request: bytes, begun: Callable[[grpc.Future[bytes]], None]) -> bytes:
        """Send a serialized ModelInferRequest and wait for the serialized answer.

        Args:
            request: the message.
            begun: is told of the call, which may be cancelled.

        Raises:
            NaiadError: see `errors`; CancelledError if the call was cancelled.
        """
        call = self._infer.future(request, timeout=self._timeout_s, metadata=self._metadata)
        begun(call)
        try:
            return bytes(call.result())
        except grpc.FutureCancelledError:
            raise CancelledError(ENDED) from None
        except grpc.RpcError as error:
            raise from_rpc(error, self.address, self._timeout_s) from None

    def close(self) -> None:
        """Close the channel; calls under way are cancelled."""
        self._channel.close()


class Fleet:
    """Servers with the same models, asked in turn. Safe to use from several threads at once."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        credentials: grpc.ChannelCredentials | None = None,
        options: Sequence[tuple[str, int | str]] = (),
        metadata: Metadata = (),
        clock: Clock | None = None,
    ) -> None:
        """Open a channel to each server; nothing is sent yet.

        Args:
            addresses: gRPC targets.
            timeout_s: seconds that one call to one server may take.
            credentials: TLS; None connects in the clear.
            options: of the channels, in place of the defaults or beside them.
            metadata: sent with every call.
            clock: the monotonic clock.
        """
        self._clock = clock or MonotonicClock()
        self._rotation = Rotation(len(addresses))
        self._lock = threading.Lock()
        self.hosts = tuple(
            Host(address, _channel(address, credentials, options), timeout_s=timeout_s, metadata=metadata)
            for address in addresses
        )

    def __repr__(self) -> str:
        return f"<Fleet {', '.join(host.address for host in self.hosts)}>"

    def attempt(self, work: Callable[[Host], Result]) -> Result:
        """What `work` gives on the server whose turn it is or, if that cannot do it now, on another one.

        Raises:
            UnavailableError: none of them could; the first one's reason.
            EngineTimeoutError: one did not answer in time. No other one is asked then: a request takes no
                longer than one server may.
            NaiadError: whatever else `work` raises; nobody else is asked then.
        """
        with self._lock:
            order = self._rotation.order(self._clock.now_ns())
        refused: NaiadError | None = None
        for index in order:
            host = self.hosts[index]
            try:
                result = work(host)
            except EngineTimeoutError as error:
                self._failed(index, error)
                raise
            except (UnavailableError, NotFoundError, ResourceExhaustedError) as error:
                self._failed(index, error)
                refused = refused or error
            else:
                self._answered(index)
                return result
        assert refused is not None
        raise refused

    def close(self) -> None:
        """Close the channels. Safe to call twice."""
        for host in self.hosts:
            host.close()

    def transports(self) -> dict[str, str]:
        """How tensors go to each server, in words."""
        return {
            host.address: f"gRPC: {host.shared_refusal}" if host.shared_refusal else "system shared memory"
            for host in self.hosts
        }

    def _failed(self, index: int, error: NaiadError) -> None:
        if not isinstance(error, UnavailableError | EngineTimeoutError):
            return  # it is there, and others of its models may be
        with self._lock:
            is_news = self._rotation.failed(index, self._clock.now_ns())
        if is_news and len(self.hosts) > 1:
            log.warning(
                "engine set aside", host=self.hosts[index].address, reason=error.message, who="operator"
            )

    def _answered(self, index: int) -> None:
        if not self._rotation.is_aside(index):
            return
        with self._lock:
            is_news = self._rotation.answered(index)
        if is_news and len(self.hosts) > 1:
            log.info("engine answers again", host=self.hosts[index].address)


def _channel(
    address: str, credentials: grpc.ChannelCredentials | None, options: Sequence[tuple[str, int | str]]
) -> grpc.Channel:
    merged = tuple({**dict(_OPTIONS), **dict(options)}.items())
    if credentials is None:
        return grpc.insecure_channel(address, merged)
    return grpc.secure_channel(address, credentials, merged)
