"""Keepalive: pings to a client that is silent, and patience with one that pings too often.

What is allowed is told by gRPC's settings of the same names (`GRPC_ARG_KEEPALIVE_TIME_MS` and its kin).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from naiad.services.http2 import frames
from naiad.services.http2.faults import ConnectionFault

if TYPE_CHECKING:
    import asyncio

    from naiad.services.grpc_settings import GrpcSettings
    from naiad.services.http2.connection import Connection

IDLE_INTERVAL_MS: Final = 7_200_000
"""How often a client may ping that has no call open, unless the operator permits more."""

TOO_MANY_PINGS: Final = "too_many_pings"
"""The reason by which gRPC's clients know that they must ping less often."""

KEEPALIVE_PING: Final = b"naiadpng"


class Pings:
    """The pings of one connection, both ways."""

    __slots__ = (
        "_connection",
        "_data_seen",
        "_heard_s",
        "_last_asked_ms",
        "_pinged_s",
        "_sent",
        "_settings",
        "_strikes",
        "_timer",
    )

    def __init__(self, connection: Connection, settings: GrpcSettings) -> None:
        self._connection = connection
        self._settings = settings
        self._data_seen = 0
        self._strikes = 0
        self._last_asked_ms: float | None = None
        self._heard_s = connection.loop.time()
        self._sent = 0
        self._pinged_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wait(settings.keepalive_time_ms)

    def heard(self) -> None:
        """Something came from the client: it is there."""
        self._heard_s = self._connection.loop.time()

    def told(self) -> None:
        """The client was sent something it asked for: pings since are no nuisance."""
        self._strikes = self._sent = 0
        self._last_asked_ms = None

    def asked(self, *, is_idle: bool) -> None:
        """The client pings.

        Raises:
            ConnectionFault: it did too often.
        """
        settings = self._settings
        self._look_for_data()
        now_ms = self._connection.loop.time() * 1e3
        last_ms, self._last_asked_ms = self._last_asked_ms, now_ms
        interval_ms = settings.http2_min_recv_ping_interval_without_data_ms
        if is_idle and not settings.keepalive_permit_without_calls:
            interval_ms = IDLE_INTERVAL_MS
        if last_ms is None or now_ms - last_ms >= interval_ms:
            return
        self._strikes += 1
        if settings.http2_max_ping_strikes and self._strikes > settings.http2_max_ping_strikes:
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, TOO_MANY_PINGS)

    def _look_for_data(self) -> None:
        """Parts of messages count too: clients measure their bandwidth by pings behind those they get."""
        data_sent = self._connection.outbox.data_sent
        if data_sent != self._data_seen:
            self._data_seen = data_sent
            self.told()

    def stop(self) -> None:
        """Ping no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self, delay_ms: float) -> None:
        if 0 < delay_ms < 2**31 - 1:
            self._timer = self._connection.loop.call_later(delay_ms / 1e3, self._look)

    def _look(self) -> None:
        connection, settings = self._connection, self._settings
        now_s = connection.loop.time()
        if self._pinged_s is not None and self._heard_s < self._pinged_s:
            connection.abort("keepalive timeout")
            return
        self._pinged_s = None
        left_ms = settings.keepalive_time_ms - (now_s - self._heard_s) * 1e3
        if left_ms <= 0 and self._may_ping():
            self._sent += 1
            self._pinged_s = now_s
            connection.outbox.write(frames.frame(frames.PING, 0, 0, KEEPALIVE_PING))
            self._wait(settings.keepalive_timeout_ms)
        else:
            self._wait(left_ms if left_ms > 0 else settings.keepalive_time_ms)

    def _may_ping(self) -> bool:
        settings = self._settings
        limit = settings.http2_max_pings_without_data
        self._look_for_data()
        if limit and self._sent >= limit:
            return False
        return settings.keepalive_permit_without_calls or not self._connection.streams.is_idle
