"""What the commands that call a server's gRPC services have in common: the connection, and its refusals."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc

from naiad.core.errors import InternalError, InvalidArgumentError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ANSWER_S = 10.0
"""How long what the server knows at once may take, in seconds."""

_UNCONNECTED = ("failed to connect", "connections to all backends failing", "dns resolution failed")


def open_channel(address: str) -> Any:
    """A channel to the server at `HOST:PORT`, without TLS, through no proxy of the environment."""
    # A reason may be as long as the server makes it.
    options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]
    return grpc.insecure_channel(address, options=options)


def metadata_of(headers: Sequence[str]) -> list[tuple[str, str]]:
    """Metadata of `NAME=VALUE` texts.

    Raises:
        InvalidArgumentError: one is not so.
    """
    return [_header(text) for text in headers]


@contextmanager
def reasons(address: str) -> Iterator[None]:
    """Errors of gRPC's as ours.

    Raises:
        NotFoundError: the server knows no such thing; in its words.
        UnavailableError: no server answers.
        InternalError: the server refuses; in its words.
    """
    try:
        yield
    except grpc.RpcError as error:
        reason = (error.details() or error.code().name).strip()
        if error.code() is grpc.StatusCode.NOT_FOUND:
            raise NotFoundError(reason) from None
        if error.code() is grpc.StatusCode.UNAVAILABLE and any(
            words in reason.lower() for words in _UNCONNECTED
        ):
            raise UnavailableError(
                f"no server answers at {address} ({reason}): name another one with --address"
            ) from None
        raise InternalError(reason) from None


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise InvalidArgumentError(f"--header={text} should be NAME=VALUE")
    return name.lower(), value
