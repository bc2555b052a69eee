"""Whom a client talks to: a Naiad server, a plain Triton, or whichever it finds."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import grpc
import grpc.aio

from naiad_client.errors import UnsupportedError
from naiad_protos.naiad.vision.v1 import vision_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

Mode: TypeAlias = Literal["naiad", "triton", "auto"]
"""Naiad's own service; the models of a plain Triton server, with pictures prepared here; or what answers."""

_STREAMS = ("StreamDetect", "StreamEmbed", "StreamAnalyze")
_PROBE = "/naiad.vision.v1.VisionService/Detect"
_PROBE_TIMEOUT_S = 10.0


def make_stub(
    mode: Mode,
    address: str,
    channel: Any,
    *,
    credentials: grpc.ChannelCredentials | None,
    options: Sequence[tuple[str, int | str]],
    metadata: Sequence[tuple[str, str | bytes]],
) -> Any:
    """What the calls are made on: an object with the methods of `VisionServiceStub`, and perhaps `close`.

    Args:
        mode: whom the calls are for.
        address: the server.
        channel: open to it, of either of gRPC's stacks.
        credentials: of the channel.
        options: of the channel.
        metadata: sent with every call.

    Raises:
        UnsupportedError: the mode needs packages that are not installed; the message names the extra.
        ValueError: there is no such mode.
    """
    is_async = isinstance(channel, grpc.aio.Channel)

    def triton() -> Any:
        return _triton_stub(is_async)(address, credentials=credentials, options=options, metadata=metadata)

    if mode == "naiad":
        return vision_pb2_grpc.VisionServiceStub(channel)
    if mode == "triton":
        return triton()
    if mode == "auto":
        kind = _AsyncAutoStub if is_async else _AutoStub
        return kind(channel, triton, metadata)
    raise ValueError(f"mode is {mode!r}: 'naiad', 'triton' or 'auto' is wanted")


def _triton_stub(is_async: bool) -> Any:
    """The class of stubs that prepare pictures themselves."""
    try:
        from naiad_client import triton  # noqa: PLC0415 - only who asks for it needs what it imports
    except ImportError as error:
        raise UnsupportedError(
            grpc.StatusCode.UNIMPLEMENTED,
            f"this server is a plain Triton, for which the extra 'triton' is needed: pip install "
            f"'naiad[triton]' ({error})",
        ) from error
    return triton.AsyncTritonVisionStub if is_async else triton.TritonVisionStub


class _AutoBase:
    """A stub that asks the server at the first call what it is, within that call's time.

    An empty Detect is refused by every Naiad and unknown to every Triton.
    """

    def __init__(
        self, channel: Any, triton: Callable[[], Any], metadata: Sequence[tuple[str, str | bytes]]
    ) -> None:
        self._probe = channel.unary_unary(_PROBE, None, None)
        self._naiad = vision_pb2_grpc.VisionServiceStub(channel)
        self._triton = triton
        self._metadata = tuple(metadata)
        self._stub: Any = None

    def transports(self) -> dict[str, str]:
        """As the stub that was chosen."""
        found: dict[str, str] = getattr(self._stub, "transports", dict)()
        return found

    def _choose(self, error: grpc.RpcError | None) -> Any:
        """The stub, by how the probe ended (None: well); raises the error if that says nothing."""
        if error is None:
            return self._naiad
        code = error.code()
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return self._triton()
        if code in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}:
            return self._naiad
        raise error


def _end_s(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _left_s(end_s: float | None) -> float | None:
    return None if end_s is None else max(0.0, end_s - time.monotonic())


def _probe_s(timeout: float | None) -> float:
    return _PROBE_TIMEOUT_S if timeout is None else min(timeout, _PROBE_TIMEOUT_S)


class _AutoStub(_AutoBase):
    """The same for threads."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._lock = threading.Lock()
        self._is_closed = False

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, timeout: float | None = None, **settings: Any) -> Any:
            end_s = _end_s(timeout)
            stub = self._resolved(timeout)
            return getattr(stub, name)(*arguments, timeout=_left_s(end_s), **settings)

        return call

    def close(self) -> None:
        """Close the stub that was chosen."""
        with self._lock:
            self._is_closed = True
        getattr(self._stub, "close", lambda: None)()

    def _resolved(self, timeout: float | None) -> Any:
        if self._stub is None:
            failure = self._ask(timeout)  # without the lock: nobody waits for another's answer
            with self._lock:
                if self._stub is None:
                    if failure is not None and self._is_closed:
                        raise failure
                    self._stub = self._choose(failure)
        return self._stub

    def _ask(self, timeout: float | None) -> grpc.RpcError | None:
        try:
            self._probe(b"", timeout=_probe_s(timeout), metadata=self._metadata)
        except grpc.RpcError as error:
            return error
        return None


class _AsyncAutoStub(_AutoBase):
    """The same for asyncio."""

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any, timeout: float | None = None, **settings: Any) -> Any:  # noqa: ASYNC109 - as stubs
            end_s = _end_s(timeout)
            stub = await self.resolved(timeout)
            return await getattr(stub, name)(*arguments, timeout=_left_s(end_s), **settings)

        def stream(**settings: Any) -> _Deferred:
            return _Deferred(self, name, settings)

        return stream if name in _STREAMS else call

    async def close(self) -> None:
        """Close the stub that was chosen."""
        if hasattr(self._stub, "close"):
            await self._stub.close()

    async def resolved(self, timeout: float | None) -> Any:  # noqa: ASYNC109 - as stubs have it
        """The stub that suits the server, found within so many seconds."""
        if self._stub is None:
            failure: grpc.RpcError | None = None
            try:
                await self._probe(b"", timeout=_probe_s(timeout), metadata=self._metadata)
            except grpc.RpcError as error:
                failure = error
            if self._stub is None:
                self._stub = self._choose(failure)
        return self._stub


class _Deferred:
    """A stream that begins once it is known what the server is."""

    def __init__(self, auto: _AsyncAutoStub, name: str, settings: dict[str, Any]) -> None:
        self._callbacks: list[Callable[[Any], None]] = []
        self._opening = asyncio.create_task(self._open(auto, name, settings), name="naiad stream opening")

    async def _open(self, auto: _AsyncAutoStub, name: str, settings: dict[str, Any]) -> Any:
        end_s = _end_s(settings.pop("timeout", None))
        stub = await auto.resolved(_left_s(end_s))
        call = getattr(stub, name)(timeout=_left_s(end_s), **settings)
        for callback in self._callbacks:
            call.add_done_callback(callback)
        return call

    async def write(self, request: Any) -> None:
        """Send a message."""
        await (await asyncio.shield(self._opening)).write(request)

    async def done_writing(self) -> None:
        """Send no more messages."""
        await (await asyncio.shield(self._opening)).done_writing()

    async def __aiter__(self) -> AsyncIterator[Any]:
        async for response in await asyncio.shield(self._opening):
            yield response

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call `callback` with the call when it is over."""
        self._callbacks.append(callback)

    def cancel(self) -> bool:
        """End the call now."""
        if self._opening.done() and not self._opening.cancelled() and self._opening.exception() is None:
            return bool(self._opening.result().cancel())
        return self._opening.cancel()
