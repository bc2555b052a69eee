"""The Kubernetes block of docs/operations.md goes together with what the server does."""

from __future__ import annotations

import re
from typing import Any

import pytest
from support.compatibility import OPERATIONS

from naiad.config.server_config import ServerConfig
from naiad.services.http.routes import route


@pytest.fixture(scope="module")
def spec() -> Any:
    """The pod's spec."""
    yaml = pytest.importorskip("yaml")
    (block,) = re.findall(r"^```yaml\n(.*?)^```", OPERATIONS.read_text(), re.DOTALL | re.MULTILINE)
    return yaml.safe_load(block)["spec"]


@pytest.mark.parametrize(
    ("probe", "endpoint"),
    [
        ("startupProbe", "server_live"),
        ("livenessProbe", "server_live"),
        ("readinessProbe", "server_ready"),
    ],
)
def test_each_probe_asks_the_right_question_at_the_default_port(spec: Any, probe: str, endpoint: str) -> None:
    (container,) = spec["containers"]
    asked = container[probe]["httpGet"]
    found = route(asked["path"].encode())
    assert found is not None
    assert found.endpoint == endpoint
    assert asked["port"] == ServerConfig.model_fields["http_port"].default


def test_the_pod_is_given_longer_than_the_wait_and_the_drain_together(spec: Any) -> None:
    """Otherwise the drain is cut off by SIGKILL."""
    command, seconds = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    drain_s = ServerConfig.model_fields["exit_timeout_secs"].default
    assert spec["terminationGracePeriodSeconds"] > int(seconds) + drain_s
