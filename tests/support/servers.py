"""A whole server in the test's own event loop, on a free port of loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from naiad.app import NaiadServer
from naiad.config.server_config import ServerConfig

if TYPE_CHECKING:
    from pathlib import Path


def server(*repositories: Path, **settings: Any) -> NaiadServer:
    """A server over the repositories; enter it to start. Listens on loopback, port 0."""
    defaults: dict[str, Any] = dict.fromkeys(("grpc_address", "http_address"), "127.0.0.1")
    defaults |= dict.fromkeys(("grpc_port", "http_port", "metrics_port"), 0) | {"exit_timeout_secs": 10}
    # A test that counts instances must not depend on how busy the machine is.
    defaults["measure_layout"] = False
    return NaiadServer(ServerConfig(model_repository=repositories, **(defaults | settings)))


def address(running: NaiadServer) -> str:
    """Where clients reach it."""
    return f"127.0.0.1:{running.grpc_port}"


def http_address(running: NaiadServer) -> str:
    """Where HTTP clients reach it."""
    return f"127.0.0.1:{running.http_port}"


def metrics_address(running: NaiadServer) -> str:
    """Where its metrics are."""
    return f"127.0.0.1:{running.metrics_port}"
