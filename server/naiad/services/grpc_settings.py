"""What the gRPC front end is told, and how gRPC wants to hear it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from naiad.services.forwarding import forward_pattern
from naiad.services.restricted import parse_restrictions
from naiad.services.tls import TlsFiles

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping

    from naiad.config.server_config import ServerConfig
    from naiad.services.restricted import Category, Restriction


class CompressionLevel(IntEnum):
    """gRPC's own levels. It picks among what the client takes: LOW is gzip, the others are deflate."""

    NONE = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3


class Transport(Enum):
    """Who speaks HTTP/2: this server itself, or gRPC's core."""

    NAIAD = "naiad"
    GRPCIO = "grpcio"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcSettings:
    """The gRPC front end's settings; times in milliseconds, 0 for a connection age that is not limited.

    `address` is a name or an IP address, or `unix:PATH`, which has no port.
    """

    address: str = "0.0.0.0"  # noqa: S104  # Triton's default
    port: int = 8001
    reuse_port: bool = False
    transport: Transport = Transport.NAIAD
    max_concurrent_streams: int = 4_096
    max_pending_bytes: int = 2**32
    max_message_bytes: int = 2**31 - 1
    keepalive_time_ms: int = 7_200_000
    keepalive_timeout_ms: int = 20_000
    keepalive_permit_without_calls: bool = False
    http2_max_pings_without_data: int = 2
    http2_min_recv_ping_interval_without_data_ms: int = 300_000
    http2_max_ping_strikes: int = 2
    max_connection_age_ms: int = 0
    max_connection_age_grace_ms: int = 0
    compression_level: CompressionLevel = CompressionLevel.NONE
    tls: TlsFiles | None = None
    restrictions: Mapping[Category, Restriction] = field(default_factory=lambda: MappingProxyType({}))
    header_forward_pattern: re.Pattern[str] | None = None

    @classmethod
    def of(cls, config: ServerConfig) -> Self:
        """The settings from the server's; certificates are read and checked.

        Raises:
            InvalidArgumentError: naming the flag whose rule, pattern or file is wrong.
        """
        return cls(
            address=config.grpc_address,
            port=config.grpc_port,
            reuse_port=config.reuse_grpc_port,
            transport=Transport(config.grpc_transport),
            max_concurrent_streams=config.grpc_max_concurrent_streams,
            max_pending_bytes=config.grpc_max_pending_bytes,
            max_message_bytes=config.grpc_max_message_bytes,
            keepalive_time_ms=config.grpc_keepalive_time,
            keepalive_timeout_ms=config.grpc_keepalive_timeout,
            keepalive_permit_without_calls=config.grpc_keepalive_permit_without_calls,
            http2_max_pings_without_data=config.grpc_http2_max_pings_without_data,
            http2_min_recv_ping_interval_without_data_ms=config.grpc_http2_min_recv_ping_interval_without_data,
            http2_max_ping_strikes=config.grpc_http2_max_ping_strikes,
            max_connection_age_ms=config.grpc_max_connection_age,
            max_connection_age_grace_ms=config.grpc_max_connection_age_grace,
            compression_level=CompressionLevel[config.grpc_infer_response_compression_level.upper()],
            tls=TlsFiles.of(
                use_ssl=config.grpc_use_ssl,
                mutual=config.grpc_use_ssl_mutual,
                certificate=config.grpc_server_cert,
                key=config.grpc_server_key,
                root=config.grpc_root_cert,
            ),
            restrictions=parse_restrictions(
                config.grpc_restricted_protocol, flag="--grpc-restricted-protocol"
            ),
            header_forward_pattern=forward_pattern(
                config.grpc_header_forward_pattern, flag="--grpc-header-forward-pattern"
            ),
        )


def listen_target(settings: GrpcSettings) -> str:
    """Where gRPC listens, as gRPC writes it: `0.0.0.0:8001`, `[::1]:8001`, `unix:/run/naiad.sock`."""
    if is_unix_socket(settings.address):
        return settings.address
    return f"{_bracketed(settings.address)}:{settings.port}"


def is_unix_socket(address: str) -> bool:
    """Whether the address is a socket in the file system or an abstract one."""
    return address.startswith(("unix:", "unix-abstract:"))


def _bracketed(address: str) -> str:
    try:
        return f"[{ipaddress.IPv6Address(address)}]"
    except ValueError:
        return address


def channel_options(settings: GrpcSettings) -> list[tuple[str, int]]:
    """The settings as gRPC's channel options."""
    options = [
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # Two servers on one port share its calls at random; unless asked for, a taken port is an error.
        ("grpc.so_reuseport", int(settings.reuse_port)),
        ("grpc.max_concurrent_streams", settings.max_concurrent_streams),
        ("grpc.keepalive_time_ms", settings.keepalive_time_ms),
        ("grpc.keepalive_timeout_ms", settings.keepalive_timeout_ms),
        ("grpc.keepalive_permit_without_calls", int(settings.keepalive_permit_without_calls)),
        ("grpc.http2.max_pings_without_data", settings.http2_max_pings_without_data),
        (
            "grpc.http2.min_ping_interval_without_data_ms",
            settings.http2_min_recv_ping_interval_without_data_ms,
        ),
        ("grpc.http2.max_ping_strikes", settings.http2_max_ping_strikes),
    ]
    if settings.max_connection_age_ms:
        options.append(("grpc.max_connection_age_ms", settings.max_connection_age_ms))
    if settings.max_connection_age_grace_ms:
        options.append(("grpc.max_connection_age_grace_ms", settings.max_connection_age_grace_ms))
    if settings.compression_level:
        # A level, not an algorithm: gRPC then keeps to what each client says that it takes.
        options.append(("grpc.default_compression_level", int(settings.compression_level)))
    return options
