"""`/metrics` on a port of its own: what the models count, collected on the loop and written on a thread."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from naiad import __version__
from naiad.core.clock import MonotonicClock
from naiad.core.errors import UnavailableError
from naiad.runtime.thread_names import name_thread
from naiad.services.http.connection import Connection
from naiad.services.http.settings import HttpSettings
from naiad.telemetry.metrics.exposition import write
from naiad.telemetry.metrics.machine import MachineMeter
from naiad.telemetry.metrics.naiad import naiad_families
from naiad.telemetry.metrics.process import process_families
from naiad.telemetry.metrics.triton import FIRST_RESPONSE_BUCKETS_MS, FIRST_RESPONSE_FAMILY, triton_families
from naiad.telemetry.statistics import VersionStatistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prometheus_client.core import Metric
    from starlette.requests import Request
    from uvicorn.server import ServerState

    from naiad.config.model_config import ModelConfig
    from naiad.core.clock import Clock
    from naiad.telemetry.metrics import MetricsSettings, ServerView

Result = TypeVar("Result")

MAX_CONNECTIONS = 64
"""More are answered 503: a handful of scrapers is all there should be."""

_KEEP_ALIVE_S = 75
"""Longer than scrapers wait between two scrapes."""

_STALL_S = 10
"""A scraper that takes longer to send its request's head, or to read the answer's end, is given up."""

_STOP_S = 1


def statistics_factory(settings: MetricsSettings) -> Callable[[ModelConfig], VersionStatistics]:
    """What makes a version's counters, with Triton's histogram and summaries if the settings ask for them."""

    def make(config: ModelConfig) -> VersionStatistics:
        bounds_ms = _first_response_buckets_ms(config) if settings.histogram_latencies else None
        return VersionStatistics(
            first_response_bounds_ns=None if bounds_ms is None else [round(ms * 1e6) for ms in bounds_ms],
            summaries=settings.summary_latencies,
        )

    return make


def _first_response_buckets_ms(config: ModelConfig) -> Sequence[float]:
    """The bounds that the config's `model_metrics` names for the histogram, or Triton's."""
    controls = config.message.model_metrics.metric_control if config.message is not None else ()
    for control in controls:
        buckets = control.histogram_options.buckets
        if control.metric_identifier.family == FIRST_RESPONSE_FAMILY and buckets:
            return sorted(set(buckets))
    return FIRST_RESPONSE_BUCKETS_MS


class MetricsServer:
    """Answers `GET /metrics`. Owns its port, the task that serves it, and a thread that reads and writes."""

    def __init__(
        self,
        address: str,
        port: int,
        *,
        view: ServerView,
        settings: MetricsSettings,
        clock: Clock | None = None,
    ) -> None:
        """Prepare; nothing is opened before `start`.

        Args:
            address: the address to listen on.
            port: the port to listen on; 0 takes a free one.
            view: what is shown; read on the event loop's thread.
            settings: which families are shown.
            clock: the monotonic clock of the versions' times.
        """
        self._address = address
        self._port = port
        self._view = view
        self._settings = settings
        self._clock = clock or MonotonicClock()
        self._started_s = time.time()
        self._pool = ThreadPoolExecutor(1, "naiad-metrics", initializer=name_thread)
        self._meter: MachineMeter | None = None
        self._server = _Server(uvicorn.Config(self._app(), **_UVICORN))  # type: ignore[arg-type]  # mixed values
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen and return the port.

        Raises:
            UnavailableError: the port cannot be taken, and why.
        """
        listening = _listen(self._address, self._port)
        port: int = listening.getsockname()[1]
        try:
            self._meter = await self._in_thread(lambda: MachineMeter(self._settings))
        except BaseException:
            listening.close()
            raise
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]), name="metrics")
        # The socket listens already: who connects before the task runs waits in its backlog.
        return port

    async def stop(self) -> None:
        """Close the port, let running scrapes end, join the thread. Safe to call twice."""
        if self._serving is not None:
            self._server.should_exit = True
            await self._serving
            self._serving = None
        if self._meter is not None:
            await self._in_thread(self._meter.close)
            self._meter = None
        await asyncio.to_thread(self._pool.shutdown)

    def _app(self) -> Starlette:
        return Starlette(routes=[Route("/metrics", self._scrape, methods=["GET"])])

    async def _scrape(self, request: Request) -> Response:
        meter = self._meter
        assert meter is not None
        now_ns = self._clock.now_ns()
        machine = await self._in_thread(lambda: meter.read(now_ns))
        # From here to the writing nothing else runs on the loop, so the counters agree with each other.
        versions = list(self._view.versions())
        triton = triton_families(versions, machine, self._settings, now_ns)
        ours = naiad_families(
            versions,
            self._view.states(),
            self._view.models(),
            streams=self._view.streams(),
            rooms=self._view.rooms(),
            experiments=self._view.experiments(),
            aside=self._view.aside(),
            version=__version__,
            started_s=self._started_s,
        )
        headers = request.headers
        zipped = "gzip" in headers.get("accept-encoding", "")
        body, content_type = await self._in_thread(
            lambda: _write(triton, ours, headers.get("accept", ""), zipped=zipped)
        )
        encoding = {"Content-Encoding": "gzip"} if zipped else {}
        return Response(
            body, headers={"Content-Type": content_type, "Vary": "Accept, Accept-Encoding", **encoding}
        )

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def _write(
    triton: Sequence[Metric], ours: Sequence[Metric], accept: str, *, zipped: bool
) -> tuple[bytes, str]:
    body, content_type = write(triton, [*ours, *process_families()], accept)
    return (gzip.compress(body, compresslevel=1) if zipped else body), content_type


def _listen(address: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(address or None, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((address, port), family=family)
    except (OSError, UnicodeError, OverflowError) as error:
        raise UnavailableError(
            f"cannot listen on {address}:{port} (--metrics-address, --metrics-port): {_reason(error)}"
        ) from None


def _reason(error: Exception) -> str:
    """The system's words alone: `create_server` adds the address to them."""
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number and number > 0 else str(getattr(error, "strerror", None) or error)


class _Connection(Connection):
    """A connection within the HTTP front end's bounds: uvicorn's own has none on heads and slow peers."""

    LIMIT_FLAG = ""

    def __init__(self, config: uvicorn.Config, server_state: ServerState, **_: object) -> None:
        # What else uvicorn's server hands over is the state of a lifespan, which is off, and the loop.
        super().__init__(config, server_state, _BOUNDS, _nothing)


def _nothing() -> None:
    """Nobody waits for the last connection: uvicorn's server looks for itself."""


_BOUNDS = HttpSettings(max_connections=MAX_CONNECTIONS, keep_alive_s=_KEEP_ALIVE_S, stall_s=_STALL_S)

_UVICORN = {
    "loop": "none",
    "http": _Connection,
    "ws": "none",
    "lifespan": "off",
    "log_config": None,
    "access_log": False,
    "server_header": False,
    "proxy_headers": False,
    "timeout_keep_alive": _KEEP_ALIVE_S,
    "timeout_graceful_shutdown": _STOP_S,
}


class _Server(uvicorn.Server):
    """A server that leaves the signals to the process that owns them."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
