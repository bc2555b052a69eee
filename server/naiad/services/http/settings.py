"""What the HTTP front end is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from naiad.services.forwarding import forward_pattern
from naiad.services.restricted import parse_restrictions

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping

    from naiad.config.server_config import ServerConfig
    from naiad.services.restricted import Category, Restriction

MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """The HTTP front end's settings.

    `max_input_size` bounds, in bytes, the JSON part of a body, a raw body and whatever is inflated;
    `max_body_size` the whole body of a request with binary tensors, `max_pending_bytes` all bodies that are
    held at once, inflated ones with what they hold. An idle connection is closed after
    `keep_alive_s` seconds; a head or body of which nothing comes, or an answer that nobody reads, is given
    up after `stall_s`.
    """

    address: str = "0.0.0.0"  # noqa: S104  # Triton's default
    port: int = 8000
    reuse_port: bool = False
    max_input_size: int = 64 * MIB
    max_body_size: int = 2**31 - 1
    max_pending_bytes: int = 4_096 * MIB
    max_connections: int = 1_024
    keep_alive_s: float = 300.0
    stall_s: float = 30.0
    restrictions: Mapping[Category, Restriction] = field(default_factory=lambda: MappingProxyType({}))
    header_forward_pattern: re.Pattern[str] | None = None

    @classmethod
    def of(cls, config: ServerConfig) -> Self:
        """The settings from the server's.

        Raises:
            InvalidArgumentError: naming the flag whose rule or pattern is wrong.
        """
        return cls(
            address=config.http_address,
            port=config.http_port,
            reuse_port=config.reuse_http_port,
            max_input_size=config.http_max_input_size,
            max_body_size=config.http_max_body_size,
            max_pending_bytes=config.http_max_pending_bytes,
            max_connections=config.http_max_connections,
            keep_alive_s=config.http_keep_alive_secs,
            stall_s=config.http_stall_timeout_secs,
            restrictions=parse_restrictions(config.http_restricted_api, flag="--http-restricted-api"),
            header_forward_pattern=forward_pattern(
                config.http_header_forward_pattern, flag="--http-header-forward-pattern"
            ),
        )
