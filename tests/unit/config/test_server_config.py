"""Settings: flags before environment before defaults, and errors that name what was wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from naiad.config.server_config import ServerConfig, environment_name, flag_name, server_config
from naiad.core.errors import InvalidArgumentError


def test_flags_win_over_the_environment_and_that_over_the_defaults() -> None:
    environment = {"NAIAD_GRPC_PORT": "1", "NAIAD_MAX_QUEUE_SIZE": "5", "NAIAD_MODEL_REPOSITORY": "/a:/b"}
    config = server_config({"grpc_port": "2"}, environment)
    assert (config.grpc_port, config.max_queue_size, config.max_image_pixels) == (2, 5, 64_000_000)
    assert config.model_repository == (Path("/a"), Path("/b"))


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("1", True), ("ON", True), ("false", False), ("0", False), ("off", False)],
)
def test_booleans_are_taken_as_triton_takes_them(text: str, value: bool) -> None:
    config = server_config({"model_repository": ["/a"], "exit_on_error": text}, {})
    assert config.exit_on_error is value


@pytest.mark.parametrize(
    ("flags", "environment", "words"),
    [
        ({}, {}, "--model-repository is required (or NAIAD_MODEL_REPOSITORY)"),
        (
            {"model_repository": ["/a"], "grpc_port": "70000"},
            {},
            "--grpc-port=70000: it must be at most 65535",
        ),
        ({"model_repository": ["/a"]}, {"NAIAD_CPU_THREADS": "none"}, "NAIAD_CPU_THREADS=none"),
        ({"model_repository": ["/a"], "exit_timeout_secs": "0"}, {}, "--exit-timeout-secs=0"),
        ({"model_repository": ["/a"], "log_format": "xml"}, {}, "--log-format=xml"),
    ],
)
def test_a_wrong_setting_names_its_flag_or_variable(
    flags: dict[str, object], environment: dict[str, str], words: str
) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        server_config(flags, environment)
    assert words in str(raised.value)


def test_every_setting_has_a_description_a_flag_and_a_variable() -> None:
    for name, field in ServerConfig.model_fields.items():
        assert field.description, name
        assert flag_name(name).startswith("--")
        assert environment_name(name).startswith("NAIAD_")


@pytest.mark.parametrize(
    ("flags", "ready"),
    [
        ({}, False),
        ({"model_control_mode": "poll"}, True),
        ({"model_control_mode": "explicit"}, False),
        ({"model_control_mode": "poll", "ready_while_loading": "false"}, False),
        ({"ready_while_loading": "true"}, True),
    ],
)
def test_a_server_that_polls_is_ready_while_it_loads_unless_told_otherwise(
    flags: dict[str, str], ready: bool
) -> None:
    """In the other modes readiness is Triton's."""
    assert server_config({"model_repository": ["/a"]} | flags, {}).ready_while_loading is ready


def test_a_quiet_period_may_be_none_and_not_below() -> None:
    assert server_config({"model_repository": ["/a"], "repository_quiet_secs": "0"}, {})
    with pytest.raises(InvalidArgumentError, match="--repository-quiet-secs=-1: it must be at least 0"):
        server_config({"model_repository": ["/a"], "repository_quiet_secs": "-1"}, {})


def test_an_empty_variable_is_as_good_as_none() -> None:
    config = server_config({"model_repository": ["/a"]}, {"NAIAD_CPU_THREADS": "", "NAIAD_GRPC_PORT": ""})
    assert (config.cpu_threads, config.grpc_port) == (None, 8001)
