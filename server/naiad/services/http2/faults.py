"""What is wrong on a connection, a stream or in a call, and how far the damage goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc


class ConnectionFault(Exception):  # noqa: N818  # no error of ours
    """The connection must end: GOAWAY with an error code of HTTP/2, and a reason for whoever debugs it."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class StreamFault(Exception):  # noqa: N818  # see ConnectionFault
    """The stream must end: RST_STREAM with an error code of HTTP/2."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class CallFault(Exception):  # noqa: N818  # see ConnectionFault
    """The call ends with this status; `accept` tells which compressions would have been taken."""

    def __init__(self, code: grpc.StatusCode, message: str, *, accept: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.accept = accept
