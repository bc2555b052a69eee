"""What the commands that call a server's gRPC services have in common: the connection, and its refusals."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import grpc

from naiad.core.errors import InternalError, InvalidArgumentError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ANSWER_S = 10.0
"""How long what the server knows at once may take, in seconds."""

_UNCONNECTED = ("failed to connect", "connections to all backends failing", "dns resolution failed")


class ServerCalls:
    """A connection to a server. A context manager. Subclasses make the calls of one service."""

    def __init__(self, address: str, headers: Sequence[str] = ()) -> None:
        """Connect, as soon as something is called.

        Args:
            address: `HOST:PORT` of gRPC, without TLS; no proxy of the environment is asked.
            headers: `NAME=VALUE`, sent with each call.

        Raises:
            InvalidArgumentError: a header is not so.
        """
        self._address = address
        self._metadata = [_header(text) for text in headers]
        # A reason may be as long as the server makes it.
        options = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]
        self.channel: Any = grpc.insecure_channel(address, options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def ask(self, method: Callable[..., Any], request: Any, *, timeout_s: float | None = ANSWER_S) -> Any:
        """The answer to one call.

        Args:
            method: of a stub on the channel.
            request: its message.
            timeout_s: how long it may take; None for as long as it likes.

        Raises:
            NotFoundError: the server knows no such thing; in its words.
            UnavailableError: no server answers.
            InternalError: the server refuses; in its words.
        """
        with _reasons(self._address):
            return method(request, timeout=timeout_s, metadata=self._metadata)


@contextmanager
def _reasons(address: str) -> Iterator[None]:
    """Errors of gRPC's as ours."""
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
