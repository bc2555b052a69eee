"""How the settings reach gRPC: each as its channel option, and from each flag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.certificates import Authority

from naiad.config.server_config import ServerConfig
from naiad.core.errors import InvalidArgumentError
from naiad.services.grpc_settings import CompressionLevel, GrpcSettings, channel_options, listen_target
from naiad.services.restricted import Category, Restriction

DEFAULTS = {
    "grpc.max_receive_message_length": 2**31 - 1,
    "grpc.max_send_message_length": 2**31 - 1,
    "grpc.so_reuseport": 0,
    "grpc.max_concurrent_streams": 4_096,
    "grpc.keepalive_time_ms": 7_200_000,
    "grpc.keepalive_timeout_ms": 20_000,
    "grpc.keepalive_permit_without_calls": 0,
    "grpc.http2.max_pings_without_data": 2,
    "grpc.http2.min_ping_interval_without_data_ms": 300_000,
    "grpc.http2.max_ping_strikes": 2,
}
"""Triton's, which bounds calls in no way."""


def config(**settings: Any) -> ServerConfig:
    return ServerConfig(model_repository=(Path("models"),), **settings)


def test_the_defaults_are_tritons() -> None:
    options = channel_options(GrpcSettings())
    assert dict(options) == DEFAULTS
    assert len(options) == len(DEFAULTS)


@pytest.mark.parametrize(
    ("flag", "value", "field", "options"),
    [
        (
            "grpc_max_message_bytes",
            9,
            "max_message_bytes",
            {"grpc.max_receive_message_length": 9, "grpc.max_send_message_length": 9},
        ),
        ("reuse_grpc_port", True, "reuse_port", {"grpc.so_reuseport": 1}),
        ("grpc_max_concurrent_streams", 9, "max_concurrent_streams", {"grpc.max_concurrent_streams": 9}),
        ("grpc_keepalive_time", 9, "keepalive_time_ms", {"grpc.keepalive_time_ms": 9}),
        ("grpc_keepalive_timeout", 9, "keepalive_timeout_ms", {"grpc.keepalive_timeout_ms": 9}),
        (
            "grpc_keepalive_permit_without_calls",
            True,
            "keepalive_permit_without_calls",
            {"grpc.keepalive_permit_without_calls": 1},
        ),
        (
            "grpc_http2_max_pings_without_data",
            9,
            "http2_max_pings_without_data",
            {"grpc.http2.max_pings_without_data": 9},
        ),
        (
            "grpc_http2_min_recv_ping_interval_without_data",
            9,
            "http2_min_recv_ping_interval_without_data_ms",
            {"grpc.http2.min_ping_interval_without_data_ms": 9},
        ),
        ("grpc_http2_max_ping_strikes", 9, "http2_max_ping_strikes", {"grpc.http2.max_ping_strikes": 9}),
        ("grpc_max_connection_age", 9, "max_connection_age_ms", {"grpc.max_connection_age_ms": 9}),
        (
            "grpc_max_connection_age_grace",
            9,
            "max_connection_age_grace_ms",
            {"grpc.max_connection_age_grace_ms": 9},
        ),
    ],
)
def test_each_flag_becomes_its_channel_option_and_no_other(
    flag: str, value: Any, field: str, options: dict[str, int]
) -> None:
    settings = GrpcSettings.of(config(**{flag: value}))
    assert getattr(settings, field) == value
    assert dict(channel_options(settings)) == DEFAULTS | options


@pytest.mark.parametrize(("name", "level"), [("none", None), ("low", 1), ("medium", 2), ("high", 3)])
def test_a_compression_level_is_grpcs_own(name: str, level: int | None) -> None:
    settings = GrpcSettings.of(config(grpc_infer_response_compression_level=name))
    assert settings.compression_level is CompressionLevel[name.upper()]
    assert dict(channel_options(settings)).get("grpc.default_compression_level") == level


def test_the_flags_of_a_default_server_are_the_defaults_here() -> None:
    assert GrpcSettings.of(config()) == GrpcSettings()


def test_rules_pattern_and_certificates_come_from_their_flags(tmp_path: Path) -> None:
    issued = Authority().issue(tmp_path)
    settings = GrpcSettings.of(
        config(
            grpc_restricted_protocol=("health,trace:k=v",),
            grpc_header_forward_pattern="^x-",
            grpc_use_ssl=True,
            grpc_server_cert=issued.certificate,
            grpc_server_key=issued.key,
        )
    )
    assert settings.restrictions == dict.fromkeys((Category.HEALTH, Category.TRACE), Restriction("k", "v"))
    assert settings.header_forward_pattern is not None
    assert settings.header_forward_pattern.search("X-Tenant")
    assert settings.tls is not None
    assert settings.tls.certificate == issued.certificate


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("grpc_restricted_protocol", ("nope:k=v",), "--grpc-restricted-protocol 'nope:k=…': unknown"),
        ("grpc_header_forward_pattern", "(", "--grpc-header-forward-pattern=\\(: not a regular expression"),
        ("grpc_use_ssl", True, "--grpc-server-cert is required by --grpc-use-ssl"),
    ],
)
def test_a_wrong_setting_is_told_by_its_flag(flag: str, value: Any, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        GrpcSettings.of(config(**{flag: value}))


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("0.0.0.0", "0.0.0.0:8001"),
        ("localhost", "localhost:8001"),
        ("::1", "[::1]:8001"),
        ("[::]", "[::]:8001"),
        ("unix:/run/naiad.sock", "unix:/run/naiad.sock"),
        ("unix-abstract:naiad", "unix-abstract:naiad"),
    ],
)
def test_addresses_are_written_as_grpc_reads_them(address: str, target: str) -> None:
    assert listen_target(GrpcSettings(address=address)) == target
