"""`naiad serve`: run the server until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from typing import TYPE_CHECKING

import structlog
import typer  # noqa: TC002  # typer reads annotations at run time

from naiad.cli.options import print_serve_help
from naiad.config.command_line import parse_command_line
from naiad.config.server_config import ServerConfig, environment_name, flag_name, server_config
from naiad.config.settings_checks import check_settings, list_notes, list_unknown_variables
from naiad.core.errors import NaiadError
from naiad.runtime.allocator import keep_memory_warm
from naiad.runtime.event_loop import new_event_loop
from naiad.runtime.thread_names import name_thread
from naiad.runtime.threads import helper_threads, read_cpu_budget
from naiad.telemetry.logging import configure_logging

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from naiad.telemetry.log_settings import LogSettings

log = structlog.get_logger(__name__)

SERVE_CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True}
"""typer hands the arguments on as they are: tritonserver's forms are read by `parse_command_line`."""


SAME_SIGNAL_S = 0.5
"""What comes so soon after a signal is the same one, in seconds.

`timeout` and others that hand signals on send them to the process and to its group, so that it gets two.
"""

MAX_FILES = 65_536
"""Open files that a server asks the system for, if its hard limit allows."""


def serve(context: typer.Context) -> None:
    """Serve the models of one or more model repositories over gRPC and HTTP.

    SIGTERM or SIGINT drains: accepted requests are answered, new ones refused, then the process exits 0.
    A second signal, half a second or more after the first, ends it at once.
    """
    if {"--help", "-h"} & set(context.args):
        print_serve_help(serve.__doc__ or "")
        return
    config, warnings, logs = _start_log(context.args)
    if config.log_format == "json":
        # gRPC's core writes lines of its own to standard error, which no reader of JSON can take.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    for warning in warnings:
        log.warning("setting", detail=warning, who="operator")
    allow_many_files()
    # Before any thread exists: the allocator's arenas take their thresholds when they are made.
    keep_memory_warm()
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_serve(config, logs))
    except NaiadError as error:
        log.error("cannot serve", reason=error.message, who="operator")
        raise SystemExit(1) from None


def _start_log(arguments: Sequence[str]) -> tuple[ServerConfig, list[str], LogSettings]:
    """The settings, sentences for the operator, and the log that runs by now.

    Raises:
        NaiadError: the settings are refused; where a JSON log was asked for, that is a line of it and the
            process ends instead.
    """
    try:
        config, warnings = read_settings(arguments)
        logs = configure_logging(
            config.log_format,
            verbose=config.log_verbose,
            info=config.log_info,
            warning=config.log_warning,
            error=config.log_error,
            log_file=config.log_file,
        )
    except NaiadError as error:
        if not asks_for_json(arguments, os.environ):
            raise
        configure_logging("json")
        log.error("cannot serve", reason=error.message, who="operator")
        raise SystemExit(1) from None
    return config, warnings, logs


def asks_for_json(arguments: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether the log is to be JSON, as far as arguments that may be wrong elsewhere say so."""
    said = environment.get(environment_name("log_format"), "")
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        name, equals, value = argument.partition("=")
        if name == flag_name("log_format"):
            said = value if equals else following
    return said.strip().lower() == "json"


def read_settings(arguments: Sequence[str]) -> tuple[ServerConfig, list[str]]:
    """The settings from arguments and environment, checked together, and sentences for the operator.

    Raises:
        InvalidArgumentError: an unknown flag, a wrong value, or settings that cannot be together.
        UnsupportedError: a flag of tritonserver that is not served.
    """
    line = parse_command_line(arguments)
    config = server_config(line.flags)
    check_settings(config)
    return config, [*line.warnings, *list_notes(config), *list_unknown_variables(os.environ)]


async def _serve(config: ServerConfig, logs: LogSettings) -> None:
    """Serve until a signal; ends the process if what was accepted could not be answered in time."""
    # Imported here so that a wrong flag is told without loading the engine.
    from naiad.app import NaiadServer  # noqa: PLC0415

    # Python's own choice is made from the host's CPUs.
    helpers = ThreadPoolExecutor(
        helper_threads(read_cpu_budget(config.cpu_threads)), "naiad-helper", initializer=name_thread
    )
    asyncio.get_running_loop().set_default_executor(helpers)
    server = NaiadServer(config, logs)
    stop = stop_signal(server.discard_files)
    starting = asyncio.create_task(server.__aenter__(), name="start")
    stopping = asyncio.create_task(stop.wait(), name="signal")
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        log.info("stopped while loading")
        server.discard_files()
        # A session being made cannot be interrupted, and nothing was promised to anyone yet.
        os._exit(0)
    await starting
    spare_collector()
    await stopping
    await server.__aexit__(None, None, None)
    if server.drained and not server.builder_ended:
        server.discard_files()
        # An engine's build cannot be interrupted, and would break when the engine's library is torn down.
        os._exit(0)
    if not server.drained:
        server.discard_files()
        # A session that does not return cannot be joined; exiting normally would wait for it for ever.
        os._exit(1)


def spare_collector() -> None:
    """Leave what was made at the start to its fate: the collector never looks at it again.

    Otherwise every full collection walks over all modules and configs, while each request waits for it.
    """
    gc.collect()
    gc.freeze()


def allow_many_files() -> None:
    """Raise the limit of open files: each caller, model and region of shared memory takes some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= MAX_FILES:
        return
    with contextlib.suppress(OSError, ValueError):  # a limit of the container's
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, MAX_FILES), hard))


def stop_signal(on_second: Callable[[], None], *, same_signal_s: float = SAME_SIGNAL_S) -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; the second one ends the process, after `on_second`."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    second_from = 0.0

    def on_signal(number: signal.Signals) -> None:
        nonlocal second_from
        if stop.is_set() and loop.time() < second_from:
            log.debug("signal repeated", signal=number.name)
            return
        if stop.is_set():
            log.warning("second signal, exiting at once", signal=number.name, who="operator")
            on_second()
            os._exit(128 + number)
        stop.set()
        second_from = loop.time() + same_signal_s
        log.info("signal received", signal=number.name)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stop
