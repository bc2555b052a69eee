"""`naiad serve`: run the server until a signal ends it."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import structlog

from naiad.cli.options import with_config_options
from naiad.config.server_config import ServerConfig, server_config
from naiad.core.errors import NaiadError
from naiad.runtime.allocator import keep_memory_warm
from naiad.telemetry.logging import configure_logging

log = structlog.get_logger(__name__)


@with_config_options
def serve(options: dict[str, Any]) -> None:
    """Serve the models of one or more model repositories over gRPC.

    SIGTERM or SIGINT drains: accepted requests are answered, new ones refused, then the process exits 0.
    A second signal ends it at once.
    """
    config = server_config(options)
    configure_logging(config.log_format, verbose=config.log_verbose)
    # Before any thread exists: the allocator's arenas take their thresholds when they are made.
    keep_memory_warm()
    try:
        asyncio.run(_serve(config))
    except NaiadError as error:
        log.error("cannot serve", reason=error.message, who="operator")
        raise SystemExit(1) from None


async def _serve(config: ServerConfig) -> None:
    """Serve until a signal; ends the process if what was accepted could not be answered in time."""
    # Imported here so that a wrong flag is told without loading the engine.
    from naiad.app import NaiadServer  # noqa: PLC0415

    stop = _stop_signal()
    server = NaiadServer(config)
    starting = asyncio.create_task(server.__aenter__(), name="start")
    stopping = asyncio.create_task(stop.wait(), name="signal")
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        log.info("stopped while loading")
        # A session being made cannot be interrupted, and nothing was promised to anyone yet.
        os._exit(0)
    await starting
    await stopping
    await server.__aexit__(None, None, None)
    if not server.drained:
        # A session that does not return cannot be joined; exiting normally would wait for it for ever.
        os._exit(1)


def _stop_signal() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; the second one ends the process."""
    stop = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            log.warning("second signal, exiting at once", signal=number.name, who="operator")
            os._exit(128 + number)
        stop.set()
        log.info("signal received", signal=number.name)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop
