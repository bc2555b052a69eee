"""What a call is answered, before it is sent."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from naiad.core.errors import NaiadError
from naiad.services.http.errors import EncodingError, MethodError, StalledError, error_of
from naiad.services.http.json_text import dumps

if TYPE_CHECKING:
    from collections.abc import Sequence

JSON = (b"content-type", b"application/json")
BINARY = (b"content-type", b"application/octet-stream")
CLOSE = (b"connection", b"close")

Header = tuple[bytes, bytes]


@dataclass(slots=True)
class Reply:
    """A status, its headers but for the body's length, and the body in parts."""

    status: int = 200
    headers: list[Header] = field(default_factory=list)
    parts: Sequence[bytes | memoryview] = ()


def json_reply(value: Any) -> Reply:
    """A value as JSON."""
    return Reply(headers=[JSON], parts=[dumps(value)])


def error_reply(error: Exception, **call: str) -> Reply:
    """An error by the table of `errors.py`; `call` is what the log says about the call."""
    status, message = error_of(error, **call)
    reply = Reply(status, [JSON], [dumps({"error": message})])
    if isinstance(error, NaiadError) and error.retry_after_ms is not None:
        seconds = max(1, math.ceil(error.retry_after_ms / 1_000))  # the header has whole ones
        reply.headers.append((b"retry-after", b"%d" % seconds))
    if isinstance(error, MethodError):
        reply.headers.append((b"allow", error.allowed.encode("ascii")))
    elif isinstance(error, EncodingError):
        reply.headers.append((b"accept-encoding", b"gzip, deflate"))
    elif isinstance(error, StalledError):
        reply.headers.append(CLOSE)
    return reply
