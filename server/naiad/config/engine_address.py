"""Which servers an engine's address names. Pure."""

from __future__ import annotations

import re

from naiad.core.errors import InvalidArgumentError

SCHEME = "triton://"

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):([0-9]{1,5})")
_LOCAL = re.compile(r"(?:ipv4:|ipv6:|dns:/*)?(localhost|127\.[0-9.]+|\[::1\]|\[0*(:0*)*:1\])(:[0-9]+)?")
_MAX_PORT = 65_535


def parse_engine(text: str) -> tuple[str, ...]:
    """The hosts of `triton://HOST:PORT[,HOST:PORT...]`, as gRPC takes them, each once.

    Raises:
        InvalidArgumentError: it is no such address; the message names the part that is wrong.
    """
    if not text.startswith(SCHEME):
        raise InvalidArgumentError(f"'{text}' is no engine: it must be {SCHEME}HOST:PORT[,HOST:PORT...]")
    hosts = [host.strip() for host in text.removeprefix(SCHEME).rstrip("/").split(",")]
    for host in hosts:
        match = _HOST.fullmatch(host)
        if match is None or not 0 < int(match[2]) <= _MAX_PORT:
            raise InvalidArgumentError(
                f"'{host}' in '{text}' is no HOST:PORT: the port of Triton's gRPC, 8001 unless it was moved"
            )
    return tuple(dict.fromkeys(hosts))


def is_local(target: str) -> bool:
    """Whether a gRPC target is surely on this machine: loopback, or a socket in the file system."""
    return target.startswith(("unix:", "unix-abstract:")) or _LOCAL.fullmatch(target) is not None
