"""Decoded header fields to the head of a call, and what is wrong with those that make none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import grpc

from naiad.services.http2 import frames
from naiad.services.http2.faults import CallFault, StreamFault
from naiad.services.http2.metadata import CONNECTION_FIELDS, Metadata, is_key, received, text, timeout_ns

if TYPE_CHECKING:
    from collections.abc import Sequence

    Fields = Sequence[tuple[bytes, bytes]]

_PSEUDO = frozenset((b":method", b":scheme", b":path", b":authority"))
_REQUIRED = (b":method", b":scheme", b":path")

# gRPC's own fields and those that its core keeps from handlers. The rest is metadata, other `grpc-…` too.
_OWN = frozenset(
    (
        b"content-type",
        b"endpoint-load-metrics-bin",
        b"grpc-accept-encoding",
        b"grpc-encoding",
        b"grpc-internal-encoding-request",
        b"grpc-message",
        b"grpc-server-stats-bin",
        b"grpc-status",
        b"grpc-tags-bin",
        b"grpc-timeout",
        b"grpc-trace-bin",
        b"grpclb_client_stats",
        b"lb-cost-bin",
        b"te",
        b"x-envoy-peer-metadata",
    )
)

_is_name = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_forbidden = re.compile(rb"[\0\r\n]").search
_is_grpc = re.compile(rb"application/grpc(?:[+;].*)?", re.IGNORECASE | re.DOTALL).fullmatch


class MalformedHeadError(StreamFault):
    """A request that HTTP/2 does not allow: RFC 9113, sections 8.1.1 to 8.3."""

    def __init__(self, reason: str) -> None:
        super().__init__(frames.PROTOCOL_ERROR, reason)


class RefusedHeadError(CallFault):
    """A request of HTTP/2 that is no call of gRPC, or one over a limit.

    `http_status` is 200 for what is a call, and is answered with a status of gRPC alone.
    """

    def __init__(self, http_status: int, code: grpc.StatusCode, message: str) -> None:
        super().__init__(code, message)
        self.http_status = http_status


class CallHead(NamedTuple):
    """What a call says before its messages.

    `metadata` is what gRPC's Python server calls `invocation_metadata`; `encoding` and `accepts` are names of
    compressions, known or not; `timeout_ns` is None for a call without a deadline.
    """

    path: str
    timeout_ns: int | None
    encoding: str
    accepts: tuple[str, ...]
    metadata: Metadata
    authority: str


def call_head(fields: Fields) -> CallHead:
    """The head that decoded fields make.

    Raises:
        MalformedHeadError: HTTP/2 does not allow such a request.
        RefusedHeadError: it is no call of gRPC, or its metadata cannot be read.
    """
    pseudo: dict[bytes, bytes] = {}
    own: dict[bytes, bytes] = {}
    metadata: list[tuple[str, str | bytes]] = []
    for name, value in fields:
        if name in _OWN and not _forbidden(value):
            own[name] = value  # the last one counts, as with gRPC's core
        elif name in _PSEUDO and name not in pseudo and not own and not metadata and not _forbidden(value):
            pseudo[name] = value
        else:
            metadata += _entries(name, value)
    _check_call(pseudo, own)
    timeout, accepts = own.get(b"grpc-timeout"), own.get(b"grpc-accept-encoding")
    authority = pseudo.get(b":authority")
    return CallHead(
        path=text(pseudo[b":path"]),
        timeout_ns=None if timeout is None else _timeout_ns(timeout),
        encoding=text(own.get(b"grpc-encoding", b"identity")),
        accepts=() if accepts is None else _names(accepts),
        metadata=tuple(metadata),
        authority=_host(metadata) if authority is None else text(authority),
    )


def _check_call(pseudo: dict[bytes, bytes], own: dict[bytes, bytes]) -> None:
    for name in _REQUIRED:
        if not pseudo.get(name):
            raise MalformedHeadError(f"no pseudo header {_shown(name)}")
    if own.get(b"te", b"trailers").lower() != b"trailers":
        raise MalformedHeadError(f"header 'te' is {_shown(own[b'te'])}, and HTTP/2 knows 'trailers' alone")
    method = pseudo[b":method"]
    if method != b"POST":
        raise RefusedHeadError(
            405, grpc.StatusCode.INTERNAL, f"a call of gRPC has the method POST, not {_shown(method)}"
        )
    content_type = own.get(b"content-type", b"")
    if not _is_grpc(content_type):
        raise RefusedHeadError(
            415,
            grpc.StatusCode.INVALID_ARGUMENT,
            f"a call of gRPC has the content-type application/grpc, not {_shown(content_type)}",
        )


def _entries(name: bytes, value: bytes) -> list[tuple[str, str | bytes]]:
    """What a field adds to the metadata, if it may be there at all."""
    if name.startswith(b":"):
        raise MalformedHeadError(f"pseudo header {_shown(name)} is unknown, doubled or out of place")
    check_field(name, value)
    if not is_key(name):
        raise RefusedHeadError(200, grpc.StatusCode.INTERNAL, f"Illegal header key: {text(name)}")
    try:
        return received(name, value)
    except ValueError as error:
        raise _unreadable(name, error) from error


def check_field(name: bytes, value: bytes) -> None:
    """See whether HTTP/2 allows a field that is no pseudo header.

    Raises:
        MalformedHeadError: it does not.
    """
    if not _is_name(name):
        raise MalformedHeadError(f"header name {_shown(name)} has characters that names do not have")
    if name in CONNECTION_FIELDS:
        raise MalformedHeadError(f"header {_shown(name)} is of HTTP/1's connections")
    if _forbidden(value):
        raise MalformedHeadError(f"the value of header {_shown(name)} has a NUL or a line's end")


def _timeout_ns(value: bytes) -> int:
    try:
        return timeout_ns(value)
    except ValueError as error:
        raise _unreadable(b"grpc-timeout", error) from error


def _unreadable(name: bytes, error: ValueError) -> RefusedHeadError:
    message = f"Error parsing '{text(name)}' metadata: {error}"
    return RefusedHeadError(200, grpc.StatusCode.INTERNAL, message)


def _names(value: bytes) -> tuple[str, ...]:
    return tuple(filter(None, map(str.strip, text(value).split(","))))


def _host(metadata: list[tuple[str, str | bytes]]) -> str:
    return next((value for key, value in metadata if key == "host" and isinstance(value, str)), "")


def _shown(value: bytes) -> str:
    return repr(text(value[:64]))
