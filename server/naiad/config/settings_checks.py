"""What settings say together: combinations that cannot be, and those that change nothing."""

from __future__ import annotations

import os
import re
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from naiad.config.command_line import did_you_mean, near_flags
from naiad.config.refused_flags import OTHER_FLAGS_BY_NAME
from naiad.config.server_config import ENVIRONMENT_PREFIX, ServerConfig, environment_name, flag_name
from naiad.config.settings.backend_config import list_without_effect
from naiad.core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_WILDCARDS = frozenset({"", "0.0.0.0", "::", "[::]", "*"})  # noqa: S104  # compared, not bound
_SERVICE_LINK = re.compile(
    r"NAIAD_(\w+_)?(SERVICE_HOST|SERVICE_PORT\w*|PORT_\d+_(TCP|UDP|SCTP)\w*)=.*|NAIAD_(\w+_)?PORT=\w+://.*"
)
"""What Kubernetes puts into the environment of a pod for a service that is called naiad or naiad-…"""


def check_settings(config: ServerConfig) -> None:
    """Refuse settings that cannot be together, before anything is loaded.

    Raises:
        InvalidArgumentError: nothing would listen, two services would on one address and port, `load_model`
            without explicit mode, half of what profiles need, or a certificate or key that is missing or
            cannot be read.
    """
    if not (config.allow_grpc or config.allow_http):
        raise InvalidArgumentError("nothing to serve: --allow-grpc and --allow-http are both false")
    _check_ports(config)
    if config.load_model and config.model_control_mode != "explicit":
        raise InvalidArgumentError(
            "Use of '--load-model' requires setting '--model-control-mode=explicit' as well: "
            f"--load-model is {', '.join(config.load_model)} and --model-control-mode "
            f"{config.model_control_mode}"
        )
    if bool(config.profile_directory) != bool(config.profile_model):
        given, missing = ("directory", "model") if config.profile_directory else ("model", "directory")
        raise InvalidArgumentError(f"--profile-{given} needs --profile-{missing} beside it")
    if config.allow_grpc and config.grpc_use_ssl:
        _check_certificates(config)


def list_notes(config: ServerConfig) -> tuple[str, ...]:
    """One sentence for each setting that is given and changes nothing, or that has a newer name."""
    notes = list(list_without_effect(config.backend_config))
    if config.strict_model_config:
        notes.append("--strict-model-config is deprecated: use --disable-auto-complete-config")
    if config.rate_limit == "off" and config.rate_limit_resource:
        notes.append(
            f"--rate-limit-resource={', '.join(config.rate_limit_resource)} has no effect without "
            "--rate-limit=execution_count: instances run whenever they are idle"
        )
    if config.grpc_transport == "grpcio" and "grpc_max_pending_bytes" in config.model_fields_set:
        notes.append(
            f"--grpc-max-pending-bytes={config.grpc_max_pending_bytes} has no effect with "
            "--grpc-transport=grpcio, which counts no messages together"
        )
    return tuple(notes)


def list_unknown_variables(environment: Mapping[str, str]) -> tuple[str, ...]:
    """One sentence for each NAIAD_ variable that is no setting, with what may have been meant."""
    known = {environment_name(field) for field in ServerConfig.model_fields}
    return tuple(
        _unknown(name)
        for name, value in sorted(environment.items())
        if name.startswith(ENVIRONMENT_PREFIX)
        and name not in known
        and not _SERVICE_LINK.fullmatch(f"{name}={value}")
    )


def _unknown(name: str) -> str:
    flag = "--" + name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("_", "-")
    if other := OTHER_FLAGS_BY_NAME.get(flag):
        return f"{name} is no setting and changes nothing: {other.note}"
    fields = {flag_name(field): environment_name(field) for field in ServerConfig.model_fields}
    near = [fields[flag] for flag in near_flags(flag) if flag in fields]
    return f"{name} is no setting and changes nothing{did_you_mean(near)}"


class _Service(NamedTuple):
    name: str
    flags: str
    address: str
    port: int


def _check_ports(config: ServerConfig) -> None:
    services = [
        _Service("HTTP", "--http-port", config.http_address, config.http_port if config.allow_http else 0),
        _Service("GRPC", "--grpc-port", config.grpc_address, config.grpc_port if config.allow_grpc else 0),
        _Service(
            "metrics",
            "--metrics-port",
            config.metrics_address,
            config.metrics_port if config.allow_metrics else 0,
        ),
    ]
    for one, other in combinations(services, 2):
        if one.port and one.port == other.port and _overlap(one.address, other.address):
            raise InvalidArgumentError(
                f"The server cannot listen to {one.name} requests and {other.name} requests at the same "
                f"address and port {one.address}:{one.port}: change {one.flags} or {other.flags}"
            )


def _overlap(one: str, other: str) -> bool:
    if one.startswith("unix:") or other.startswith("unix:"):  # a socket in the file system has no port
        return False
    return one == other or one in _WILDCARDS or other in _WILDCARDS


def _check_certificates(config: ServerConfig) -> None:
    needed = {"grpc_server_cert": "--grpc-use-ssl", "grpc_server_key": "--grpc-use-ssl"}
    if config.grpc_use_ssl_mutual:
        needed["grpc_root_cert"] = "--grpc-use-ssl-mutual"
    for field, reason in needed.items():
        if getattr(config, field) is None:
            raise InvalidArgumentError(f"{reason} needs {flag_name(field)}, a PEM file")
    for field in ("grpc_server_cert", "grpc_server_key", "grpc_root_cert"):
        if (path := getattr(config, field)) is not None:
            _check_readable(flag_name(field), path)


def _check_readable(flag: str, path: Path) -> None:
    if not path.is_file():
        raise InvalidArgumentError(f"{flag}={path}: there is no such file")
    if not os.access(path, os.R_OK):
        raise InvalidArgumentError(f"{flag}={path}: the file cannot be read by this user")
