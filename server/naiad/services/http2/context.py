"""What a servicer may ask and say of its call: the part of `grpc.aio.ServicerContext` that services use."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    import grpc

    from naiad.services.http2.heads import CallHead

    Metadata = tuple[tuple[str, str | bytes], ...]


class CallContext:
    """What is known of a call, apart from its messages."""

    __slots__ = (
        "_callbacks",
        "_code",
        "_deadline_s",
        "_details",
        "_is_over",
        "_peer",
        "_trailing",
        "head",
        "note",
    )

    def __init__(self, head: CallHead, peer: str) -> None:
        self.head = head
        self.note: object = None
        """What the servicer wants to find again when the same call comes by another way; nobody else's."""
        self._peer = peer
        self._deadline_s: float | None = None
        if head.timeout_ns is not None:
            self._deadline_s = time.monotonic() + head.timeout_ns / 1e9
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing: Metadata = ()
        self._callbacks: list[Callable[[Any], Any]] | None = None
        self._is_over = False

    def invocation_metadata(self) -> Metadata:
        """What the client sent beside its messages."""
        return self.head.metadata

    def peer(self) -> str:
        """The client, as gRPC names it: `ipv4:127.0.0.1:54494`."""
        return self._peer

    def time_remaining(self) -> float | None:
        """Seconds until the deadline; None without one."""
        return None if self._deadline_s is None else max(0.0, self._deadline_s - time.monotonic())

    @property
    def deadline_ns(self) -> int | None:
        """The deadline on the monotonic clock; None without one."""
        return None if self._deadline_s is None else int(self._deadline_s * 1e9)

    def set_code(self, code: grpc.StatusCode) -> None:
        """The status that the call ends with once its servicer returns or raises, as generated stubs do."""
        self._code = code

    def set_details(self, details: str) -> None:
        """The text of that status."""
        self._details = details

    def set_trailing_metadata(self, metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """What follows the answer, beside its status."""
        self._trailing = tuple(metadata)

    def add_done_callback(self, callback: Callable[[Any], Any]) -> None:
        """Call that, with this context, when the call is over."""
        if self._is_over:
            callback(self)
            return
        if self._callbacks is None:
            self._callbacks = []
        self._callbacks.append(callback)

    def done(self) -> bool:
        """Whether the call is over: its client was told the end or has left, and nothing works for it."""
        return self._is_over

    def _set_over(self) -> None:
        self._is_over = True
        callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback(self)


class Requests:
    """The messages of a call's client, as they come: what a servicer iterates over."""

    __slots__ = ("_next",)

    def __init__(self, next_message: Callable[[], Awaitable[Any]]) -> None:
        self._next = next_message

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await self._next()
