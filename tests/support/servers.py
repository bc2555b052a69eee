"""A whole server in the test's own event loop, on a free port of loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from naiad.app import NaiadServer
from naiad.config.server_config import ServerConfig

if TYPE_CHECKING:
    from pathlib import Path


def server(*repositories: Path, **settings: Any) -> NaiadServer:
    """A server over the repositories; enter it to start. Listens on loopback, port 0."""
    defaults: dict[str, Any] = {"grpc_address": "127.0.0.1", "grpc_port": 0, "exit_timeout_secs": 10}
    return NaiadServer(ServerConfig(model_repository=repositories, **(defaults | settings)))


def address(running: NaiadServer) -> str:
    """Where clients reach it."""
    return f"127.0.0.1:{running.grpc_port}"
